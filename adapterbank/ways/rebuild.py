"""basis rebuild: the next version of a basis over the same members, or others, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.catalog import bases, members, removal, versions
from adapterbank.catalog.rows import Basis, Version
from adapterbank.ways.basis import Size, keep, record, refuse_larger, sources_of
from adapterbank.ways.fit import fitted
from adapterbank.ways.joinable import same_base_model
from adapterbank.ways.results import Progress, Rebuilt
from adapterbank.ways.rooms import Rooms, delete_released


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
    """Fit ``basis`` anew as its next version, with its gauge and dtype; the old one goes unless something needs it.

    Members that are kept only in a bounded form are refused unless ``accept_generation_loss``: their error is then a bound.
    """
    with rooms.catalog.reading() as tx:
        before = members.of_basis(tx, basis)
        chosen = [versions.get(tx, member.version) for member in before] if chosen is None else list(chosen)
    same_base_model(chosen, basis.base_model)
    p = Size(components=basis.components if components is None else components).components or 0
    gauge, dtype = basis.gauge, basis.dtype
    with sources_of(rooms, chosen, accept_generation_loss=accept_generation_loss) as (sources, layout):
        refuse_larger(sources, layout, p, gauge, dtype, force)
        with fitted(rooms, sources, layout, p, gauge=gauge, dtype=dtype, progress=progress) as fit, rooms.vault.holding():
            keep(rooms, fit)
            with rooms.catalog.writing() as tx:
                after = record(tx, basis.name, basis.base_model, layout, p, gauge, dtype, fit)
                old = bases.get(tx, basis.ref)
                removed = not removal.blockers(tx, old.id)
                if removed:
                    removal.remove_basis(tx, old)
                after_members = members.of_basis(tx, after)
    if removed:
        delete_released(rooms)
    return Rebuilt(basis, after, tuple(before), tuple(after_members), removed)
