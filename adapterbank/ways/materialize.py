"""materialize: a version as the canonical directory that servers and PEFT read alike, whatever it is kept as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from math import frexp
from pathlib import Path
from typing import Any

import torch

from adapterbank.catalog import members
from adapterbank.catalog.rows import Member, Version
from adapterbank.container import canonical_json
from adapterbank.errors import BoundedOnlyError, ConflictError, IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format import config as config_file
from adapterbank.peft_format.canonical import canonical
from adapterbank.peft_format.directory import write_directory
from adapterbank.peft_format.foreign import CONFIG, WEIGHTS
from adapterbank.peft_format.names import naming_called
from adapterbank.peft_format.servers import problems
from adapterbank.peft_format.writer import MARKS
from adapterbank.ways.load import Loaded, load
from adapterbank.ways.reconstruct import reconstruct_member
from adapterbank.ways.results import Materialized
from adapterbank.ways.rooms import Rooms

FORMAT = 1
FORMS = ("auto", "exact", "bounded")
DTYPES = ("float32", "float16", "bfloat16")
_ITEM = {"float32": 4, "float16": 2, "bfloat16": 2}
_EXACT = "exact"
_BESIDE, _TENSOR = 4096, 160  # bytes: more than configuration and marks take, and the header for a tensor beside its name


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: the directory's rank (default: the adapter's largest), dtype (default: the adapter's own where that is
    exact), from which form (``auto``: the exact bytes if they are kept), for which server (its limits are checked)."""

    rank: int | None = None
    dtype: str | None = None
    form: str = "auto"
    server: str = "peft"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"form {self.form!r}: expected one of {', '.join(FORMS)}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")


@dataclass(frozen=True, slots=True)
class Planned:
    """A directory to come: ``marks`` say what it is and decide its ``key``; ``largest`` is a bound of its bytes."""

    version: Version
    order: Order
    marks: dict[str, Any]
    largest: int

    @property
    def key(self) -> str:
        """The same for equal content only, so that other content is never at the same path."""
        return f"{self.version.ref}-{sha256(canonical_json(self.marks).encode()).hexdigest()[:16]}"


def planned(rooms: Rooms, version: Version, order: Order) -> Planned:
    """Look only: no weights are read. Raises IncompatibleError with everything that the server would refuse,
    BoundedOnlyError if the exact bytes are wanted and gone."""
    found = problems(
        order.server, rank=version.rank, modules=version.modules, carried=version.carried, obstacle=version.obstacle
    )
    if order.server == "peft" and (version.obstacle or version.carried):
        raise IncompatibleError(f"{version.ref} is more than LoRA factors", hint=f"adapterbank export {version.ref} DIR")
    refused = [problem.message for problem in found if problem.severity == "error"]
    if refused:
        raise IncompatibleError(f"{version.ref} cannot be served by {order.server}: {'; '.join(sorted(set(refused))[:3])}")
    form = _form(rooms, version, order.form)
    rank = order.rank or _rank(rooms, version, form)
    dtype = order.dtype or _dtype(rooms, version, form)
    largest = _BESIDE + sum(rank * shape.rows * _ITEM[dtype] + 2 * _TENSOR + 3 * len(shape.name) for shape in version.modules)
    marks = {
        "format": FORMAT, "ref": version.ref, "files": version.files, "source": _EXACT if form is None else form.object,
        "rank": rank, "dtype": dtype, "base_model": version.base_model,
    }  # fmt: skip
    return Planned(version, order, marks, largest)


def materialize(rooms: Rooms, plan: Planned, directory: Path) -> Materialized:
    """Write it all at once; where the same directory is already, nothing is written (``unchanged``).

    Raises ConflictError if ``directory`` holds anything else.
    """
    version, kept = plan.version, present(directory, plan)
    if kept is not None:
        return Materialized(version.ref, str(directory), "unchanged", **kept)
    with load(rooms, version) as loaded:
        source = _loaded(rooms, plan, loaded)
        dtype = getattr(torch, plan.marks["dtype"])
        rounded = replace(_rounded(source.adapter, dtype), base_model=version.base_model)
        told = _error(source, rounded) | {"dtype": plan.marks["dtype"], "rank": plan.marks["rank"]}
        files = canonical(rounded, rank=plan.marks["rank"], dtype=dtype, naming=version.naming)
    told |= {"bytes": sum(len(data) for data in files.values())}
    marks = plan.marks | {"told": told, "sha256": {name: _digest(data) for name, data in files.items()}}
    write_directory(directory, files | {MARKS: (canonical_json(marks) + "\n").encode()})
    return Materialized(version.ref, str(directory), "written", **told)


def present(directory: Path, plan: Planned) -> dict[str, Any] | None:
    """What was told when this very directory was written, its bytes checked; None if there is nothing at ``directory``."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    try:
        marks = json.loads((directory / MARKS).read_bytes())
        told, digests = dict(marks.pop("told")), dict(marks.pop("sha256"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message = f"{directory} holds something else than {plan.version.ref} as this command writes it"
        raise ConflictError(message, hint="name another directory") from None
    if marks != plan.marks:
        raise ConflictError(f"{directory} holds {_difference(marks, plan.marks)}", hint="name another directory")
    changed = [name for name in (CONFIG, WEIGHTS) if _digest_of(directory / name) != digests.get(name)]
    if changed:
        message = f"{directory} was changed after it was written: {', '.join(changed)}"
        raise ConflictError(message, hint="name another directory, or delete this one")
    return told


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What lies where another directory is wanted: another version, or the same one in another way."""
    if found.get("ref") != wanted["ref"]:
        return f"{found.get('ref')}, not {wanted['ref']}"
    names = {"rank": "rank", "dtype": "dtype", "base_model": "base model"}
    others = [f"{names[key]} {found.get(key)} instead of {wanted[key]}" for key in names if found.get(key) != wanted[key]]
    return f"{wanted['ref']} with {', '.join(others)}" if others else f"{wanted['ref']} from another stored form"


def _form(rooms: Rooms, version: Version, wanted: str) -> Member | None:
    """The form that the factors are taken from, None for the exact bytes."""
    if version.level != "bounded" and wanted != "bounded":
        return None
    if wanted == "exact":
        raise BoundedOnlyError(f"{version.ref} is kept only in a bounded form", hint="--form auto takes it")
    with rooms.catalog.reading() as tx:
        found = members.of_version(tx, version)
    if not found:
        raise UsageError(f"{version.ref} has no bounded form", hint=f"adapterbank encode {version.ref}")
    return found[0]


def _rank(rooms: Rooms, version: Version, form: Member | None) -> int:
    """The largest rank of what comes out: a form coded against others may have more components than the adapter."""
    if form is None or not form.reference_objects:
        return version.rank
    return max(version.rank, reconstruct_member(rooms, form, version.base_model).rank)


def _loaded(rooms: Rooms, plan: Planned, loaded: Loaded) -> Loaded:
    """What ``load`` gave, or the bounded form of a version that has its exact bytes as well."""
    if loaded.form is not None or plan.marks["source"] == _EXACT:
        return loaded
    with rooms.catalog.reading() as tx:
        form = next(each for each in members.of_version(tx, plan.version) if each.object == plan.marks["source"])
    return Loaded(reconstruct_member(rooms, form, plan.version.base_model), loaded.config, form)


def _dtype(rooms: Rooms, version: Version, form: Member | None) -> str:
    """The adapter's own dtype where folding the scalings into it is exact (powers of two), else float32."""
    if version.dtype not in DTYPES:
        return "float32"
    if form is not None:  # decoded factors have scaling 1
        return version.dtype
    config, naming = config_file.parse(rooms.vault.read(version.config)), naming_called(version.naming)
    scalings = {config.scaling_for(naming.backward(shape.name)) for shape in version.modules}
    return version.dtype if all(abs(frexp(each)[0]) == 0.5 or each == 0.0 for each in scalings) else "float32"


def _rounded(adapter: Adapter, dtype: torch.dtype) -> Adapter:
    """Scalings folded into B in float64, everything rounded once."""
    modules = {
        name: Factors(
            f.A.to(dtype), (f.B.double() * f.scaling).to(dtype) if f.scaling != 1.0 else f.B.to(dtype), 1.0, f.kind, f.kernel
        )
        for name, f in adapter.modules.items()
    }
    return replace(adapter, modules=modules, extras={})


def _error(source: Loaded, rounded: Adapter) -> dict[str, Any]:
    """The relative ΔW error of what is written: measured from the exact bytes; a bound where a form and rounding add up."""
    same = all(
        torch.equal(f.A.double(), (o := source.adapter.modules[name]).A.double())
        and torch.equal(f.B.double(), o.B.double() * o.scaling)
        for name, f in rounded.modules.items()
    )
    rounding = 0.0 if same else delta_error(source.adapter, rounded).total
    if source.form is None:
        return {"error": rounding, "error_kind": "measured"}
    stated = source.form.error + (1 + source.form.error) * rounding
    return {"error": stated, "error_kind": source.form.error_kind if same else "bound"}


def _digest_of(path: Path) -> str | None:
    try:
        return _digest(path.read_bytes())
    except OSError:
        return None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
