"""basis build and basis add: from versions to a basis of known size and measured error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.rows import Basis, Member, NewBasis, Version
from adapterbank.errors import ConflictError, ErrorBoundError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError
from adapterbank.lora.gauge import check_gauge
from adapterbank.lora.layout import Layout
from adapterbank.refs import check_name
from adapterbank.rmm import choose
from adapterbank.rmm.objects import common_layout
from adapterbank.rmm.survey import stored_bytes, survey
from adapterbank.ways.fit import Fitted, Source, fitted, projected
from adapterbank.ways.joinable import each_once, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.reconstruct import open_basis
from adapterbank.ways.results import Option, Progress
from adapterbank.ways.rooms import Rooms

CODEC = "rmm"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a basis shall be: exactly one of the number p of components, the explained share of the variance, the
    largest relative ΔW error of a member, and the share of the originals' bytes (basis counted)."""

    components: int | None = None
    energy: float | None = None
    max_error: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in asdict(self).items() if value is not None]
        if len(given) != 1:
            raise UsageError(f"give exactly one of components, energy, max_error, budget; got {', '.join(given) or 'none'}")
        if self.components is not None and (type(self.components) is not int or self.components < 0):
            raise UsageError(f"components: got {self.components!r}, expected 0, 1, 2 …")


def options(
    rooms: Rooms, chosen: Sequence[Version], *, gauge: str, dtype: str, progress: Progress | None = None
) -> list[Option]:
    """What a basis over ``chosen`` would cost, and how far off its members would be, for every number of components."""
    with sources_of(rooms, chosen) as (sources, layout):
        found = survey(_adapters(sources), layout, gauge=gauge, dtype=dtype, progress=progress)
    original = sum(version.bytes for version in chosen)
    return [Option(each.p, each.bytes, each.bytes / original, each.mean, each.worst, each.energy) for each in found.options]


def build(
    rooms: Rooms,
    name: str,
    chosen: Sequence[Version],
    size: Size,
    *,
    gauge: str,
    dtype: str,
    force: bool | None = False,
    progress: Progress | None = None,
) -> Basis:
    """Fit the next version of the basis ``name`` over ``chosen`` and store it with its members.

    Raises IncompatibleError (base models, kinds, shapes, too few common modules), UsageError (larger than the originals
    without ``force``), ErrorBoundError (no number of components is good enough).
    """
    check_name(name, "basis name")
    check_gauge(gauge)
    with sources_of(rooms, chosen) as (sources, layout):
        p = components(size, sources, layout, gauge, dtype, progress)
        refuse_larger(sources, layout, p, gauge, dtype, force)
        with fitted(rooms, sources, layout, p, gauge=gauge, dtype=dtype, progress=progress) as fit, rooms.vault.holding():
            keep(rooms, fit)
            with rooms.catalog.writing() as tx:
                return record(tx, name, chosen[0].base_model, layout, p, gauge, dtype, fit)


def add(rooms: Rooms, basis: Basis, version: Version, *, force: bool = False) -> Member:
    """Project ``version`` on a frozen basis. Raises ErrorBoundError above the basis's worst error unless ``force``."""
    same_base_model([version], basis.base_model)
    with (
        sources_of(rooms, [version]) as (sources, _),
        open_basis(rooms, basis) as stored,
        projected(rooms, sources[0], stored, basis.object) as (made, row),
    ):
        if row.error > basis.error_worst and not force:
            raise ErrorBoundError(
                f"{version.ref} has error {row.error:.4g} in {basis.ref}, whose members have at most {basis.error_worst:.4g}",
                hint=f"--force records it all the same; adapterbank basis rebuild {basis.name} fits it in",
            )
        with rooms.vault.holding():
            rooms.vault.keep(made.staged, made.digest)
            with rooms.catalog.writing() as tx:
                return members.add(tx, bases.get(tx, basis.ref), versions.get(tx, version.ref), row)


@contextmanager
def sources_of(
    rooms: Rooms, chosen: Sequence[Version], *, accept_generation_loss: bool = False
) -> Iterator[tuple[list[Source], Layout]]:
    """The adapters of ``chosen`` and the layout that has a place for each of their modules."""
    each_once(chosen, "a basis")
    same_base_model(chosen)
    plain_lora(chosen)
    bounded = [version.ref for version in chosen if version.level == "bounded"]
    if bounded and not accept_generation_loss:
        raise ConflictError(
            f"kept only in a bounded form: {', '.join(bounded)}; a basis over them would add its error to theirs",
            hint="leave them out, or register their original files again; basis rebuild takes --accept-generation-loss",
        )
    with ExitStack() as stack:
        sources = []
        for version in chosen:
            loaded = stack.enter_context(load(rooms, version))
            inherited = None if loaded.form is None else DeltaError(loaded.form.error, loaded.form.module_errors)
            sources.append(Source(version, loaded.adapter, inherited))
        layout = common_layout([source.adapter.shapes for source in sources], [version.ref for version in chosen])
        yield sources, layout


def components(size: Size, sources: Sequence[Source], layout: Layout, gauge: str, dtype: str, progress: Progress | None) -> int:
    """The number p of components that ``size`` asks for. Raises ErrorBoundError, UsageError."""
    if size.components is not None:
        return size.components
    found = survey(_adapters(sources), layout, gauge=gauge, dtype=dtype, progress=progress)
    if size.energy is not None:
        return choose.by_energy(found, size.energy).p
    if size.max_error is not None:
        return choose.by_error(found, size.max_error).p
    assert size.budget is not None
    return choose.by_budget(found, size.budget, original_bytes=_original_bytes(sources)).p


def refuse_larger(sources: Sequence[Source], layout: Layout, p: int, gauge: str, dtype: str, force: bool | None) -> None:
    """Raise UsageError if the basis would take more bytes than its originals; with ``force`` None only warn, if true accept."""
    size = stored_bytes(_adapters(sources), layout, p, gauge=gauge, dtype=dtype)
    original = _original_bytes(sources)
    if size <= original or force:
        return
    message = f"with p = {p} the basis and its members take {size} bytes, more than the {original} of their originals"
    if force is None:
        warnings.warn(message, stacklevel=4)  # at the caller of the façade
        return
    raise UsageError(message, hint="a smaller size, a narrower --store-dtype, more members, or --force")


def keep(rooms: Rooms, fit: Fitted) -> None:
    """Make the staged objects of a fit durable."""
    for stored in (fit.basis, *(each for _, each, _ in fit.members)):
        rooms.vault.keep(stored.staged, stored.digest)


def record(tx: Connection, name: str, base_model: str, layout: Layout, p: int, gauge: str, dtype: str, fit: Fitted) -> Basis:
    """The rows of a basis and its members."""
    kinds = {row.error_kind for _, _, row in fit.members}
    new = NewBasis(
        name=name, base_model=base_model, layout=layout, codec=CODEC, gauge=gauge, components=p, dtype=dtype,
        object=fit.basis.digest, bytes=fit.basis.size, error_mean=sum(fit.errors) / len(fit.errors),
        error_worst=max(fit.errors), error_kind="bound" if "bound" in kinds else "measured",
    )  # fmt: skip
    basis = bases.add(tx, new)
    for version, _, row in fit.members:
        members.add(tx, basis, versions.get(tx, version.ref), row)
    return bases.get(tx, basis.ref)


def _adapters(sources: Sequence[Source]) -> list[Adapter]:
    return [source.adapter for source in sources]


def _original_bytes(sources: Sequence[Source]) -> int:
    return sum(source.version.bytes for source in sources)
