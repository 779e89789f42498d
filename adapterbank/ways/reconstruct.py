"""reconstruct: an adapter from its stored form alone, whatever codec made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adapterbank import container
from adapterbank.catalog import bases, versions
from adapterbank.catalog.rows import Basis as BasisRow
from adapterbank.catalog.rows import Member as MemberRow
from adapterbank.catalog.rows import Version
from adapterbank.errors import IntegrityError, PlatformError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format.directory import write_directory
from adapterbank.peft_format.writer import encode
from adapterbank.rmm.members import reconstruct_adapter
from adapterbank.rmm.objects import Basis, Member
from adapterbank.ways import coding
from adapterbank.ways.form import form_of
from adapterbank.ways.results import Written
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.sizes import RMM

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
    codec: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Reconstructed:
    """The adapter in ``dtype`` (float32 by default) on ``device``; without ``basis`` from the form with the smallest error, of
    those by ``codec`` if one is named.

    Raises NotFoundError if the version has no such form, PlatformError if the device is not there, UsageError for a
    dtype that holds no fractions.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise UsageError(f"dtype {dtype}: expected a floating-point type")
    with rooms.catalog.reading() as tx:
        form = form_of(tx, version, basis, codec)
    return Reconstructed(reconstruct_member(rooms, form, version.base_model, device=device, dtype=dtype), form)


def write_reconstruction(
    rooms: Rooms,
    version: Version,
    directory: Path,
    *,
    basis: str | None = None,
    codec: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Written:
    """The same as a PEFT directory; ``adapterbank.json`` beside it marks it as an approximation with its error: the
    form's, or in a narrower ``dtype`` a bound that counts the rounding too. A module without stored components is written with
    one of zeros: PEFT knows no rank 0."""
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    done = reconstruct(rooms, version, basis=basis, codec=codec, device=device)
    error, kind = _as_written(done, getattr(torch, dtype))
    marks = {
        "approximation_of": version.ref, "files": version.files, "basis": done.form.basis, "codec": done.form.codec,
        "relative_delta_error": error, "error_kind": kind,
    }  # fmt: skip
    files = encode(
        _of_rank_one(done.adapter),
        rooms.vault.read(version.config),
        dtype=getattr(torch, dtype),
        marks=marks,
        naming=version.naming,
    )
    write_directory(directory, files)
    size = sum(len(data) for data in files.values())
    return Written(version.ref, done.form.basis, done.form.codec, str(directory), error, kind, size)


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
    """Decode one form from its objects: its own, and that of its basis or those that it was coded against."""
    place, dtype = _device(device), dtype or torch.float32
    with rooms.catalog.reading() as tx:
        row = bases.get(tx, form.basis) if form.basis is not None else None
        model = base_model or versions.get(tx, form.version).base_model
    if form.codec != RMM:
        return _decoded(rooms, form, model, place, dtype)
    if row is None:
        raise IntegrityError(f"the form of {form.version} by the codec {form.codec} has no basis", hint="adapterbank verify")
    with open_basis(rooms, row) as basis, rooms.vault.open(form.object) as mapped:
        member = Member.from_object(*container.read(mapped.buffer), row.shared)
        return reconstruct_adapter(basis, member, device=place, dtype=dtype, base_model=model)


def _decoded(rooms: Rooms, form: MemberRow, base_model: str, device: torch.device, dtype: torch.dtype) -> Adapter:
    """Decoded on the CPU, so that it is the same everywhere; then moved."""
    with ExitStack() as stack:
        data = stack.enter_context(rooms.vault.open(form.object)).buffer
        references = {digest: stack.enter_context(rooms.vault.open(digest)).buffer for digest in form.reference_objects}
        adapter = coding.decode(data, codec=form.codec, references=references, base_model=base_model)
        modules = {name: replace(f, A=f.A.to(device, dtype), B=f.B.to(device, dtype)) for name, f in adapter.modules.items()}
        extras = {key: tensor.to(device, copy=True) for key, tensor in adapter.extras.items()}
        return Adapter(modules, base_model, extras)


def _of_rank_one(adapter: Adapter) -> Adapter:
    """The adapter with a component of zeros in each module of rank 0."""
    modules = {
        name: f if f.rank else replace(f, A=f.A.new_zeros(1, f.d_in), B=f.B.new_zeros(f.d_out, 1))
        for name, f in adapter.modules.items()
    }
    return replace(adapter, modules=modules)


@contextmanager
def open_basis(rooms: Rooms, row: BasisRow) -> Iterator[Basis]:
    """The stored basis, its tensors views of the mapped object, valid inside the block."""
    with rooms.vault.open(row.shared) as mapped:
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
