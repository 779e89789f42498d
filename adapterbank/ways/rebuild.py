"""basis rebuild: the next version of a basis over the same members, or others, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection

from adapterbank.catalog import bases, members, removal, versions
from adapterbank.catalog.rows import Basis, Version
from adapterbank.errors import UsageError
from adapterbank.ways import basis as published
from adapterbank.ways import collection
from adapterbank.ways.joinable import same_base_model
from adapterbank.ways.results import Progress, Rebuilt
from adapterbank.ways.rooms import Rooms, delete_released
from adapterbank.ways.settings import settings_of
from adapterbank.ways.sizes import RD, Published, Size


def rebuild(
    rooms: Rooms,
    basis: Basis,
    chosen: Sequence[Version] | None,
    components: int | None,
    *,
    accept_generation_loss: bool = False,
    force: bool | None = False,
    progress: Progress | None = None,
) -> Rebuilt:
    """Make ``basis`` anew as its next version, with its own settings; the old one goes unless something needs it.

    Members that are kept only in a bounded form are refused unless ``accept_generation_loss``: their error is then a bound.
    """
    with rooms.catalog.reading() as tx:
        before = members.of_basis(tx, basis)
        in_order = sorted(before, key=lambda member: member.id)  # as they were given: what others were coded against first
        chosen = [versions.get(tx, member.version) for member in in_order] if chosen is None else list(chosen)
    same_base_model(chosen, basis.base_model)
    making = _prepared(rooms, basis, chosen, components, accept_generation_loss, force, progress)
    with making as record, rooms.catalog.writing() as tx:
        after = record(tx)
        old = bases.get(tx, basis.ref)
        removed = not removal.blockers(tx, old.id)
        if removed:
            removal.remove_basis(tx, old)
        after_members = members.of_basis(tx, after)
    if removed:
        delete_released(rooms)
    return Rebuilt(basis, after, tuple(before), tuple(after_members), removed)


def _prepared(
    rooms: Rooms,
    basis: Basis,
    chosen: Sequence[Version],
    components: int | None,
    accept_generation_loss: bool,
    force: bool | None,
    progress: Progress | None,
) -> AbstractContextManager[Callable[[Connection], Basis]]:
    """What makes the objects of the next version, by the codec of ``basis``."""
    if basis.codec != RD:
        size = Size(components=basis.components if components is None else components)
        return published.prepared(
            rooms, basis.name, chosen, size, Published(basis.gauge, basis.dtype),
            accept_generation_loss=accept_generation_loss, force=force, progress=progress,
        )  # fmt: skip
    if components is not None:
        raise UsageError(f"{basis.ref} is a collection of coded adapters (codec rd): it has no components")
    return collection.prepared(
        rooms, basis.name, chosen, settings_of(basis),
        accept_generation_loss=accept_generation_loss, force=force, progress=progress,
    )  # fmt: skip
