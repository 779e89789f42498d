"""Removal: only what nothing needs, with everything that was its own; what that leaves unneeded goes to ``released``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict

from sqlalchemy import Connection, select

from adapterbank.catalog import edges, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Artefact, Basis, Edge, Member, StoredObject, Version
from adapterbank.errors import InUseError


def blockers(tx: Connection, node: int) -> list[Edge]:
    """What forbids the removal of a version, basis or form: what needs it or its forms from outside, and aliases.

    A form does not forbid the removal of its own version nor of its basis: it goes with them.
    """
    own = _own(tx, node)
    return _blocking(tx, own, set(own))


def remove_versions(tx: Connection, versions: Iterable[Version]) -> list[StoredObject]:
    """Remove versions with their forms, labels and recipes; what needs another of them may come in any order.

    Returns the objects that this released. Raises InUseError with the list of dependents; their numbers are not given again.
    """
    return _remove(tx, {version.id: f"version {version.ref}" for version in versions})


def remove_basis(tx: Connection, basis: Basis) -> list[StoredObject]:
    """Remove a basis with its members. Raises InUseError listing the bounded versions that need one of them."""
    return _remove(tx, {basis.id: f"basis {basis.ref}"})


def remove_member(tx: Connection, member: Member) -> list[StoredObject]:
    """Take one form away. Raises InUseError if its version has nothing else left, or another form was coded against it."""
    return _remove(tx, edges.labels(tx, [member.id]))


def remove_artefacts(tx: Connection, artefacts: Iterable[Artefact]) -> list[StoredObject]:
    """Take artefacts away. Raises InUseError listing the merges that used one: they could not be replayed without data."""
    return _remove(tx, edges.labels(tx, [artefact.id for artefact in artefacts]))


def _remove(tx: Connection, nodes: Mapping[int, str]) -> list[StoredObject]:
    """Remove nodes, told by their labels, with what is their own: edges first, so that their order does not matter."""
    groups = {node: _own(tx, node) for node in sorted(nodes, reverse=True)}
    going = {node for own in groups.values() for node in own}
    for node, own in groups.items():
        _refuse(_blocking(tx, own, going), nodes[node])
    needed: list[int] = []
    for own in groups.values():
        needed += [target for _, target, _ in edges.pairs(tx, t.edges.c.dependent.in_(own))]
        tx.execute(t.edges.delete().where(t.edges.c.dependent.in_(own)))
    for own in groups.values():
        for table in (t.members, t.artefacts, t.versions, t.bases, t.nodes):
            tx.execute(table.delete().where(table.c.id.in_(own)))
    return objects.release(tx, needed)


def _own(tx: Connection, node: int) -> list[int]:
    """The node, and where it is a version or a basis the forms and the statistics that belong to it."""
    c, of = t.members.c, (t.edges.c.needed == node) & (t.edges.c.kind == edges.OF)
    statistics = select(t.artefacts.c.id).join(t.edges, t.edges.c.dependent == t.artefacts.c.id)
    forms = tx.scalars(select(c.id).where((c.version_id == node) | (c.basis_id == node))).all()
    return [node, *forms, *tx.scalars(statistics.where(of, t.artefacts.c.family == "statistics"))]


def _blocking(tx: Connection, own: list[int], going: Set[int]) -> list[Edge]:
    found = [pair for pair in edges.pairs(tx, t.edges.c.needed.in_(own)) if pair[0] not in going]
    return edges.labelled(tx, found) + edges.pointing(tx, own[:1])


def _refuse(blocking: list[Edge], label: str) -> None:
    if not blocking:
        return
    listed = ", ".join(edge.dependent for edge in blocking[:8]) + (" and more" if len(blocking) > 8 else "")
    raise InUseError(f"{label} is needed by {listed}", hint=_hint(blocking), details=[asdict(edge) for edge in blocking])


def _hint(blocking: list[Edge]) -> str:
    kinds = {edge.kind for edge in blocking}
    if edges.ALIAS in kinds:
        return "adapterbank alias remove NAME@ALIAS, or set it to another version"
    if edges.CONSTITUENT in kinds:
        return "remove the merges first, or together with it"
    if edges.USING in kinds:
        return "these merges are replayed from it: remove them first"
    if edges.OF in kinds:
        return "coefficients were found for it: adapterbank artefacts remove sha256:…"
    if edges.DIFFERENCE in kinds:
        return "their bytes are coded as differences to it: adapterbank compact REF… --level original first, or remove them too"
    if edges.REFERENCE in kinds:
        return "these forms were coded against it: adapterbank basis rebuild BASIS with the versions that stay, or remove both"
    return "the versions at level bounded have no other bytes: remove them first, or register their original files again"
