"""A member back from its basis: rows of a buffer, an adapter, and the error of what was stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError, delta_squared_norm, relative, squared_distance
from adapterbank.lora.pack import unpack
from adapterbank.rmm.objects import Basis, Member
from adapterbank.rmm.reconstruct import reconstruct


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows that a member has: where they lie in the basis's block and in the member's."""

    basis: slice
    member: slice


def reconstruct_rows(
    basis: Basis,
    member: Member,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
) -> dict[int, Tensor]:
    """The basis's whole row blocks ``[D_c, r_c]`` by rank, with exact zeros in the rows of modules that the member lacks."""
    blocks = {}
    for block in basis.layout.classes:
        out = torch.zeros(block.rows, block.rank, dtype=dtype, device=device)
        for run in _runs(basis, member, block.rank):
            _reconstruct_run(basis, member, block.rank, run, out[run.basis], backend)
        blocks[block.rank] = out
    return blocks


def reconstruct_adapter(
    basis: Basis,
    member: Member,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
    base_model: str | None = None,
) -> Adapter:
    """The member as an adapter of scaling 1, its factors views of one buffer per rank; it has no module the member lacks.

    Its extras are copies on ``device`` as they were stored, whatever ``dtype`` is.
    """
    modules = {}
    for block in member.layout.classes:
        out = torch.empty(block.rows, block.rank, dtype=dtype, device=device)
        for run in _runs(basis, member, block.rank):
            _reconstruct_run(basis, member, block.rank, run, out[run.member], backend)
        modules.update({shape.name: unpack(out[block.rows_of(shape)], shape) for shape in block.modules})
    extras = {key: tensor.to(device, copy=True) for key, tensor in member.extras.items()}
    return Adapter(modules, base_model, extras)


def stored_error(original: Adapter, basis: Basis, member: Member) -> DeltaError:
    """The error of a member against its original, measured from the stored tensors, one module in memory at a time."""
    if set(original.shapes) != set(member.layout):
        raise IncompatibleError("the original has other modules than its member on the basis")
    errors, norms = {}, {}
    for block in member.layout.classes:
        for shape in block.modules:
            run = Run(basis.layout[block.rank].rows_of(shape), block.rows_of(shape))
            rows = torch.empty(shape.rows, shape.rank)
            _reconstruct_run(basis, member, block.rank, run, rows, "blocks")
            factors = original.modules[shape.name]
            norms[shape.name] = delta_squared_norm(factors)
            errors[shape.name] = squared_distance(factors, unpack(rows, shape))
    total = relative(sum(errors.values()), sum(norms.values()))
    return DeltaError(total, {name: relative(errors[name], norms[name]) for name in sorted(errors)})


def _reconstruct_run(basis: Basis, member: Member, rank: int, run: Run, out: Tensor, backend: str) -> None:
    mean, components = basis.mean[rank][run.basis].to(out.device), basis.components[rank][:, run.basis].to(out.device)
    reconstruct(mean, components, member.coefficients[rank][run.member].to(out.device), out, backend=backend)


def _runs(basis: Basis, member: Member, rank: int) -> Iterator[Run]:
    """The fewest runs that hold all rows of the member at this rank: one for a member that lacks nothing."""
    own = next((block for block in member.layout.classes if block.rank == rank), None)
    current: Run | None = None
    for shape in own.modules if own is not None else ():
        there, here = basis.layout[rank].rows_of(shape), own.rows_of(shape) if own is not None else slice(0)
        if current is not None and there.start == current.basis.stop:
            current = Run(slice(current.basis.start, there.stop), slice(current.member.start, here.stop))
            continue
        if current is not None:
            yield current
        current = Run(there, here)
    if current is not None:
        yield current
