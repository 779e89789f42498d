"""materialize: a version as the canonical directory that servers and PEFT read alike, whatever it is kept as."""

from __future__ import annotations

import json
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
from adapterbank.peft_format.canonical import canonical
from adapterbank.peft_format.directory import write_directory
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
_BESIDE = 1 << 16  # bytes: more than header, configuration and marks take


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
    parameters = sum(rank * shape.rows for shape in version.modules)
    marks = {
        "format": FORMAT, "ref": version.ref, "files": version.files, "source": _EXACT if form is None else form.object,
        "rank": rank, "dtype": order.dtype or version.dtype, "base_model": version.base_model,
    }  # fmt: skip
    return Planned(version, order, marks, parameters * _ITEM[order.dtype or "float32"] + _BESIDE)


def materialize(rooms: Rooms, plan: Planned, directory: Path) -> Materialized:
    """Write it all at once; where the same directory is already, nothing is written (``unchanged``).

    Raises ConflictError if ``directory`` holds anything else.
    """
    version, kept = plan.version, present(directory, plan)
    if kept is not None:
        return Materialized(version.ref, str(directory), "unchanged", **kept)
    with load(rooms, version) as loaded:
        source = _loaded(rooms, plan, loaded)
        wanted = plan.order.dtype or _dtype(source.adapter, version.dtype)
        rounded = _rounded(source.adapter, getattr(torch, wanted))
        told = _error(source, rounded) | {"dtype": wanted, "rank": plan.marks["rank"]}
        files = canonical(rounded, rank=plan.marks["rank"], dtype=getattr(torch, wanted), naming=version.naming)
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
        same = marks == plan.marks and all(_digest((directory / name).read_bytes()) == own for name, own in digests.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise ConflictError(f"{directory} holds something else than {plan.version.ref}", hint="name another directory")
    return told


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


def _dtype(adapter: Adapter, own: str) -> str:
    """The adapter's own dtype where folding the scalings into it is exact (powers of two), else float32."""
    exact = all(abs(frexp(factors.scaling)[0]) == 0.5 or factors.scaling == 0.0 for factors in adapter.modules.values())
    return own if own in DTYPES and exact else "float32"


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


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
