"""Levels of a version: ``original`` keeps the bytes as registered, ``bounded`` only a member of a basis with its error."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, select

from adapterbank.catalog import digests, edges, members, objects, versions
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import UsageError
from adapterbank.refs import Ref

Level = Literal["original", "bounded"]


def set_level(tx: Connection, version: Version, level: Level, member: Member | None = None) -> Version:
    """Change the level of a version.

    To ``bounded``: ``member`` stands for it from now on and cannot be removed; its weights object goes to ``released``. Back to
    ``original``: the object ``version.weights`` must be in the vault again. Raises UsageError if it is at this level already,
    or the member is another version's.
    """
    if version.level == level:
        raise UsageError(f"{version.ref} is at level {level} already")
    digests.update(tx, t.versions, {"id": version.id}, {"level": level})
    if level == "bounded":
        if member is None or member.version != version.ref:
            raise UsageError(f"{version.ref} needs a member of its own to stand for it, got {member and member.version}")
        edges.add(tx, version.id, member.id, edges.BOUNDED)
        objects.release(tx, _drop(tx, version, edges.WEIGHTS))
    else:
        _drop(tx, version, edges.BOUNDED)
        config_size = tx.scalar(select(t.objects.c.bytes).where(t.objects.c.digest == version.config)) or 0
        edges.add(tx, version.id, objects.register(tx, version.weights, version.bytes - config_size), edges.WEIGHTS)
    return versions.get(tx, Ref(name=version.name, version=version.number))


def bounded_member(tx: Connection, version: Version) -> Member | None:
    """The member that stands for a bounded version; None for an original one."""
    needed = select(t.edges.c.needed).where(t.edges.c.dependent == version.id, t.edges.c.kind == edges.BOUNDED)
    found = members.select_members(tx, t.members.c.id.in_(needed))
    return found[0] if found else None


def merges_needing(tx: Connection, version: Version) -> list[str]:
    """References of the merges that have ``version`` as a constituent: their ``revert`` is only as exact as it is."""
    found = edges.pairs(tx, (t.edges.c.needed == version.id) & (t.edges.c.kind == edges.CONSTITUENT))
    label = edges.labels(tx, {dependent for dependent, _, _ in found})
    return sorted(text.removeprefix("version ") for text in label.values())


def _drop(tx: Connection, version: Version, kind: str) -> list[int]:
    """Remove the edges of one kind that start at ``version`` and return where they went."""
    where = (t.edges.c.dependent == version.id) & (t.edges.c.kind == kind)
    needed = [node for _, node, _ in edges.pairs(tx, where)]
    tx.execute(t.edges.delete().where(where))
    return needed
