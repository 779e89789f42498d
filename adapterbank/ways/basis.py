"""basis build and basis add: from versions to a basis of known size and measured error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from sqlalchemy import Connection

from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.rows import Basis, Member, NewBasis, Version
from adapterbank.errors import ErrorBoundError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError
from adapterbank.lora.gauge import check_gauge
from adapterbank.lora.layout import Layout
from adapterbank.refs import check_name
from adapterbank.rmm import choose
from adapterbank.rmm.objects import common_layout
from adapterbank.rmm.survey import stored_bytes, survey
from adapterbank.ways import collection
from adapterbank.ways.fit import Fitted, Source, fitted, projected
from adapterbank.ways.joinable import each_once, not_bounded, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.reconstruct import open_basis
from adapterbank.ways.results import Option, Progress
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.settings import settings_for
from adapterbank.ways.sizes import RD, RMM, OneByOne, Published, Size, refuse_larger

SMALLER = "a smaller size, a narrower --store-dtype, more members"


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
    way: Published | OneByOne,
    *,
    force: bool | None = False,
    progress: Progress | None = None,
) -> Basis:
    """Build the next version of the basis ``name`` over ``chosen`` and store it with its members.

    Raises IncompatibleError (base models, kinds, shapes, too few common modules), UsageError (larger than the originals
    without ``force``), ErrorBoundError (it cannot be good enough).
    """
    if isinstance(way, OneByOne):
        settings = settings_for(size, chosen, way.effort)
        making = collection.prepared(rooms, name, chosen, settings, force=force, progress=progress)
    else:
        making = prepared(rooms, name, chosen, size, way, force=force, progress=progress)
    with making as record, rooms.catalog.writing() as tx:
        return record(tx)


@contextmanager
def prepared(
    rooms: Rooms,
    name: str,
    chosen: Sequence[Version],
    size: Size,
    way: Published,
    *,
    accept_generation_loss: bool = False,
    force: bool | None = False,
    progress: Progress | None = None,
) -> Iterator[Callable[[Connection], Basis]]:
    """Fit a basis over ``chosen`` and make its objects durable; the block gets what records the rows."""
    check_name(name, "basis name")
    gauge, dtype = check_gauge(way.gauge), way.dtype
    with sources_of(rooms, chosen, accept_generation_loss=accept_generation_loss) as (sources, layout):
        p = components(size, sources, layout, gauge, dtype, progress)
        needed = stored_bytes(_adapters(sources), layout, p, gauge=gauge, dtype=dtype)
        refuse_larger(needed, _original_bytes(sources), f"with p = {p}", force, SMALLER)
        with fitted(rooms, sources, layout, p, gauge=gauge, dtype=dtype, progress=progress) as fit, rooms.vault.holding():
            keep(rooms, fit)
            model = chosen[0].base_model
            yield partial(record, name=name, base_model=model, layout=layout, p=p, gauge=gauge, dtype=dtype, fit=fit)


def add(rooms: Rooms, basis: Basis, version: Version, *, force: bool = False, progress: Progress | None = None) -> Member:
    """Project ``version`` on a frozen basis, or code it as the members of a collection are.

    Raises ErrorBoundError above the basis's worst error unless ``force``.
    """
    if basis.codec == RD:
        return collection.add(rooms, basis, version, force=force, progress=progress)
    same_base_model([version], basis.base_model)
    with (
        sources_of(rooms, [version]) as (sources, _),
        open_basis(rooms, basis) as stored,
        projected(rooms, sources[0], stored, basis.shared) as (made, row),
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
    if not accept_generation_loss:
        not_bounded(chosen)
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
    assert size.budget is not None  # bits are of the other codec
    return choose.by_budget(found, size.budget, original_bytes=_original_bytes(sources)).p


def keep(rooms: Rooms, fit: Fitted) -> None:
    """Make the staged objects of a fit durable."""
    for stored in (fit.basis, *(each for _, each, _ in fit.members)):
        rooms.vault.keep(stored.staged, stored.digest)


def record(tx: Connection, name: str, base_model: str, layout: Layout, p: int, gauge: str, dtype: str, fit: Fitted) -> Basis:
    """The rows of a basis and its members."""
    kinds = {row.error_kind for _, _, row in fit.members}
    new = NewBasis(
        name=name, base_model=base_model, layout=layout, codec=RMM, gauge=gauge, components=p, dtype=dtype,
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
