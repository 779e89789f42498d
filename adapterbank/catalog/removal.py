"""Removal: only what nothing needs, with everything that was its own; what that leaves unneeded goes to ``released``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Connection, select

from adapterbank.catalog import edges, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Basis, Edge, Member, StoredObject, Version
from adapterbank.errors import InUseError


def blockers(tx: Connection, node: int) -> list[Edge]:
    """What forbids the removal of a version, basis or member: what needs it or its members from outside, and aliases.

    A member of a basis does not forbid the removal of its own version nor of its basis: it goes with them.
    """
    own = {node, *_members(tx, node)}
    found = [pair for pair in edges.pairs(tx, t.edges.c.needed.in_(own)) if pair[0] not in own]
    return edges.labelled(tx, found) + edges.pointing(tx, [node])


def remove_versions(tx: Connection, versions: Iterable[Version]) -> list[StoredObject]:
    """Remove versions with their members in bases, labels and recipes, a merge before its constituents.

    Returns the objects that this released. Raises InUseError with the list of dependents; their numbers are not given again.
    """
    gone: list[StoredObject] = []
    # Whatever needs a version is younger, so it has the larger id and goes first.
    for version in sorted({version.id: version for version in versions}.values(), key=lambda version: -version.id):
        gone += _remove(tx, version.id, f"version {version.ref}")
    return gone


def remove_basis(tx: Connection, basis: Basis) -> list[StoredObject]:
    """Remove a basis with its members. Raises InUseError listing the bounded versions that need one of them."""
    return _remove(tx, basis.id, f"basis {basis.ref}")


def remove_member(tx: Connection, member: Member) -> list[StoredObject]:
    """Take one version's form out of its basis. Raises InUseError if that version has nothing else left."""
    return _remove(tx, member.id, f"member {member.version} of {member.basis}")


def _remove(tx: Connection, node: int, label: str) -> list[StoredObject]:
    blocking = blockers(tx, node)
    if blocking:
        listed = ", ".join(edge.dependent for edge in blocking[:8]) + (" and more" if len(blocking) > 8 else "")
        raise InUseError(f"{label} is needed by {listed}", hint=_hint(blocking), details=[asdict(edge) for edge in blocking])
    own = [*_members(tx, node), node]
    needed = [target for _, target, _ in edges.pairs(tx, t.edges.c.dependent.in_(own))]
    tx.execute(t.edges.delete().where(t.edges.c.dependent.in_(own)))
    for table in (t.members, t.versions, t.bases):
        tx.execute(table.delete().where(table.c.id.in_(own)))
    tx.execute(t.nodes.delete().where(t.nodes.c.id.in_(own)))
    return objects.release(tx, needed)


def _members(tx: Connection, node: int) -> list[int]:
    """The members that belong to a version or a basis."""
    return list(tx.scalars(select(t.members.c.id).where((t.members.c.version_id == node) | (t.members.c.basis_id == node))))


def _hint(blocking: list[Edge]) -> str:
    kinds = {edge.kind for edge in blocking}
    if edges.ALIAS in kinds:
        return "adapterbank alias remove NAME@ALIAS, or set it to another version"
    if edges.CONSTITUENT in kinds:
        return "remove the merges first, or together with it"
    return "the versions at level bounded have no other bytes: remove them first, or register their original files again"
