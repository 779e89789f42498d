"""reconstruct: an adapter from mean, components and coefficients alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adapterbank import container
from adapterbank.catalog import bases
from adapterbank.catalog.rows import Basis as BasisRow
from adapterbank.catalog.rows import Member as MemberRow
from adapterbank.catalog.rows import Version
from adapterbank.errors import PlatformError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format.directory import write_directory
from adapterbank.peft_format.writer import encode
from adapterbank.rmm.members import reconstruct_adapter
from adapterbank.rmm.objects import Basis, Member
from adapterbank.ways.form import form_of
from adapterbank.ways.results import Written
from adapterbank.ways.rooms import Rooms

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, eq=False)
class Reconstructed:
    """An adapter of scaling 1, and the form it came from."""

    adapter: Adapter
    form: MemberRow


def reconstruct(
    rooms: Rooms,
    version: Version,
    *,
    basis: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Reconstructed:
    """The adapter in ``dtype`` (float32 by default) on ``device``; without ``basis`` from the form with the smallest error.

    Raises NotFoundError if the version is no member of a basis, PlatformError if the device is not there, UsageError for a
    dtype that holds no fractions.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise UsageError(f"dtype {dtype}: expected a floating-point type")
    with rooms.catalog.reading() as tx:
        form = form_of(tx, version, basis)
    return Reconstructed(reconstruct_member(rooms, form, version.base_model, device=device, dtype=dtype), form)


def write_reconstruction(
    rooms: Rooms, version: Version, directory: Path, *, basis: str | None = None, device: str = "cpu", dtype: str = "float32"
) -> Written:
    """The same as a PEFT directory; ``adapterbank.json`` beside it marks it as an approximation with its error: the
    form's, or in a narrower ``dtype`` a bound that counts the rounding too."""
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    done = reconstruct(rooms, version, basis=basis, device=device)
    error, kind = _as_written(done, getattr(torch, dtype))
    marks = {
        "approximation_of": version.ref, "files": version.files, "basis": done.form.basis,
        "relative_delta_error": error, "error_kind": kind,
    }  # fmt: skip
    files = encode(
        done.adapter, rooms.vault.read(version.config), dtype=getattr(torch, dtype), marks=marks, naming=version.naming
    )
    write_directory(directory, files)
    size = sum(len(data) for data in files.values())
    return Written(version.ref, done.form.basis, str(directory), error, kind, size)


def _as_written(done: Reconstructed, dtype: torch.dtype) -> tuple[float, str]:
    """The form's error and its kind, both as stored where ``dtype`` is float32; rounding to a narrower one makes it a bound:
    ‖ΔW − ΔŴᵣ‖ ≤ ‖ΔW − ΔŴ‖ + ‖ΔŴ − ΔŴᵣ‖ and ‖ΔŴ‖ ≤ ‖ΔW‖ + ‖ΔW − ΔŴ‖."""
    if dtype == torch.float32:
        return done.form.error, done.form.error_kind
    modules = {name: replace(f, A=f.A.to(dtype), B=f.B.to(dtype)) for name, f in done.adapter.modules.items()}
    rounding = delta_error(done.adapter, replace(done.adapter, modules=modules)).total
    return done.form.error + (1 + done.form.error) * rounding, "bound"


def reconstruct_member(
    rooms: Rooms,
    form: MemberRow,
    base_model: str | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Adapter:
    """Decode one form from its two objects."""
    with rooms.catalog.reading() as tx:
        row = bases.get(tx, form.basis)
    with open_basis(rooms, row) as basis, rooms.vault.open(form.object) as mapped:
        member = Member.from_object(*container.read(mapped.buffer), row.object)
        return reconstruct_adapter(
            basis, member, device=_device(device), dtype=dtype or torch.float32, base_model=base_model or row.base_model
        )


@contextmanager
def open_basis(rooms: Rooms, row: BasisRow) -> Iterator[Basis]:
    """The stored basis, its tensors views of the mapped object, valid inside the block."""
    with rooms.vault.open(row.object) as mapped:
        yield Basis.from_object(*container.read(mapped.buffer))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} does not exist: expected cpu, cuda, cuda:1, mps or another of torch's") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PlatformError(f"device {name!r} cannot be used: {reason}", hint="--device cpu") from None
    return device
