"""ΔW·x for a batch in which every row may name another adapter, without reconstructing any.

Over a basis of Reversible Model Merging a row of B or A is μ + Σ_k c_k·b_k, so the products with μ and b_k are shared by the
whole batch and only coefficients differ: h = x·μ_A + Σ_k (x∘c_k)·b_k on the side of A, one product of ``[m, (1 + p)·d_in]``
with ``[(1 + p)·d_in, r]``; then y = h·μ_Bᵀ + Σ_k c_k∘(h·b_kᵀ) on that of B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.lora.layout import ModuleShape
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter, Segment


def apply(adapters: Mapping[str, Packed], place: int, x: Tensor, refs: Sequence[str]) -> Tensor:
    """``[m, d_out]``: row i is ΔW_i·x_i of the module at ``place``, ΔW_i that of ``adapters[refs[i]]``, zeros if it has none.

    ``x`` is ``[m, d_in]``, m at least 1; sums run in float32, the result has the dtype of ``x``. Raises as :func:`check`.
    """
    shape = next(iter(adapters.values())).layout.places[place].shape
    check(x, shape, len(refs))
    out = x.new_zeros(len(refs), shape.d_out, dtype=torch.float32)
    for (basis, segment), rows in _grouped(adapters, place, refs).items():
        index = torch.tensor(rows, device=x.device)
        some = x.index_select(0, index).float()
        named = [adapters[refs[row]] for row in rows]
        found = (
            _over_basis(basis, segment, some, named, place)
            if basis is not None and segment is not None
            else _each(named, some, place)
        )
        out.index_copy_(0, index, found)
    return out.to(x.dtype)


def check(x: Tensor, shape: ModuleShape, rows: int) -> None:
    """UsageError unless ``x`` is a floating-point ``[rows, d_in]`` for a module of this shape."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise UsageError(
            f"apply: x is {x.dtype if isinstance(x, Tensor) else type(x).__name__}, expected a floating-point tensor"
        )
    if x.ndim != 2 or x.shape != (rows, shape.d_in):
        raise UsageError(f"apply: x is {list(x.shape)}, expected [{rows}, {shape.d_in}] for module {shape.name!r}")


_Group = tuple[ResidentBasis | None, Segment | None]


def _grouped(adapters: Mapping[str, Packed], place: int, refs: Sequence[str]) -> dict[_Group, list[int]]:
    """Rows by what they share: the segment of a basis, or nothing. Rows whose adapter lacks the module are left out."""
    found: dict[_Group, list[int]] = {}
    for row, ref in enumerate(refs):
        adapter = adapters[ref]
        if not isinstance(adapter, RmmAdapter):
            found.setdefault((None, None), []).append(row)
            continue
        held = adapter.held(place)
        if held is not None:
            found.setdefault((adapter.basis, held[0]), []).append(row)
    return found


def _over_basis(basis: ResidentBasis, segment: Segment, x: Tensor, named: Sequence[Packed], place: int) -> Tensor:
    d_out = named[0].layout.places[place].shape.d_out
    shared = basis.rows(segment)  # [1 + p, rows, r]
    held = [adapter.held(place) for adapter in named if isinstance(adapter, RmmAdapter)]
    c = torch.stack([each[1] for each in held if each is not None]).float()  # [m, p, rows]
    c = torch.cat([c.new_ones(len(c), 1, segment.rows), c], dim=1)
    h = (x.unsqueeze(1) * c[:, :, d_out:]).flatten(1) @ shared[:, d_out:].flatten(0, 1)
    y = torch.einsum("mr,kor->mko", h, shared[:, :d_out])
    return (y * c[:, :, :d_out]).sum(dim=1)


def _each(named: Sequence[Packed], x: Tensor, place: int) -> Tensor:
    """Adapters that share nothing: each one's rows, once for all its lines of the batch."""
    d_out = named[0].layout.places[place].shape.d_out
    out = x.new_zeros(len(named), d_out)
    for adapter in {id(each): each for each in named}.values():
        rows = adapter.rows(place)
        if rows is not None:
            lines = [i for i, each in enumerate(named) if each is adapter]
            out[lines] = (x[lines] @ rows[d_out:]) @ rows[:d_out].T
    return out
