"""Levels of a version: ``original`` keeps the bytes as registered, ``exact`` the same losslessly coded, ``bounded`` only a
stored form with its error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection, select

from adapterbank.catalog import digests, edges, members, objects, versions
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import ConflictError, InUseError, UsageError
from adapterbank.refs import Ref

Level = Literal["original", "exact", "bounded"]


@dataclass(frozen=True, slots=True)
class ExactForm:
    """The coded object of an exact version: its digest and bytes, and the version whose bytes decoding needs too, if any."""

    object: str
    bytes: int
    reference: str | None = None


def set_level(tx: Connection, version: Version, level: Level, form: Member | ExactForm | None = None) -> Version:
    """Change the level of a version; what it kept before goes to ``released``.

    To ``bounded``: ``form``, a member of its own, stands for it from now on and cannot be removed. To ``exact``: ``form`` is
    the coded object, which must be in the vault; its reference is held. Back to ``original``: the object ``version.weights``
    must be in the vault again. Raises UsageError (at this level already, or no fitting form), InUseError (to ``bounded``, while
    others are coded as differences to it), ConflictError (a reference that may be none).
    """
    if version.level == level:
        raise UsageError(f"{version.ref} is at level {level} already")
    kept, needs = _needs(tx, version, level, form)
    digests.update(tx, t.versions, {"id": version.id}, {"level": level})
    dropped = _drop(tx, version, edges.WEIGHTS, edges.EXACT)
    _drop(tx, version, edges.BOUNDED, edges.DIFFERENCE)
    for node in needs:
        edges.add(tx, version.id, node, kept)
    if isinstance(form, ExactForm) and form.reference is not None:
        edges.add(tx, version.id, versions.get(tx, form.reference).id, edges.DIFFERENCE)
    objects.release(tx, dropped)
    return versions.get(tx, Ref(name=version.name, version=version.number))


def bounded_member(tx: Connection, version: Version) -> Member | None:
    """The form that stands for a bounded version; None for any other."""
    needed = select(t.edges.c.needed).where(t.edges.c.dependent == version.id, t.edges.c.kind == edges.BOUNDED)
    found = members.select_members(tx, t.members.c.id.in_(needed))
    return found[0] if found else None


def exact_form(tx: Connection, version: Version) -> ExactForm | None:
    """The coded object of an exact version; None for any other."""
    coded = (
        select(t.objects)
        .join_from(t.edges, t.objects, t.objects.c.id == t.edges.c.needed)
        .where(t.edges.c.dependent == version.id, t.edges.c.kind == edges.EXACT)
    )
    row = tx.execute(coded).mappings().first()
    if row is None:
        return None
    digests.check(t.objects, {column: row[column.name] for column in t.objects.columns})
    needed = edges.pairs(tx, (t.edges.c.dependent == version.id) & (t.edges.c.kind == edges.DIFFERENCE))
    label = edges.labels(tx, {node for _, node, _ in needed})
    references = [text.removeprefix("version ") for text in label.values()]
    return ExactForm(row["digest"], row["bytes"], references[0] if references else None)


def may_refer(tx: Connection, version: Version, reference: Version) -> bool:
    """Whether ``version`` may be coded as differences to ``reference``: the latter is not itself coded so, and nothing else to
    the former, so that every exact version is decoded in one step. A bounded version has no bytes to refer to."""
    return version.id != reference.id and is_self_contained(tx, reference) and not differing(tx, version)


def is_self_contained(tx: Connection, version: Version) -> bool:
    """Whether the exact bytes of ``version`` are kept without those of another version."""
    needed = edges.pairs(tx, (t.edges.c.dependent == version.id) & (t.edges.c.kind == edges.DIFFERENCE))
    return version.level != "bounded" and not needed


def differing(tx: Connection, version: Version) -> list[str]:
    """References of the exact versions that are coded as differences to ``version``."""
    return _dependents(tx, version, edges.DIFFERENCE)


def merges_needing(tx: Connection, version: Version) -> list[str]:
    """References of the merges that have ``version`` as a constituent: their ``revert`` is only as exact as it is."""
    return _dependents(tx, version, edges.CONSTITUENT)


def _needs(tx: Connection, version: Version, level: Level, form: Member | ExactForm | None) -> tuple[str, list[int]]:
    """The kind of edge that a version at ``level`` has, and where it leads."""
    if level == "bounded":
        if not isinstance(form, Member) or form.version != version.ref:
            got = form.version if isinstance(form, Member) else form
            raise UsageError(f"{version.ref} needs a form of its own to stand for it, got {got}")
        _refuse_if_referred_to(tx, version)
        return edges.BOUNDED, [form.id]
    if level == "exact":
        if not isinstance(form, ExactForm) or version.level == "bounded":
            raise UsageError(f"{version.ref} needs its exact bytes, coded, to be at level exact")
        if form.reference is not None and not may_refer(tx, version, versions.get(tx, form.reference)):
            raise ConflictError(f"{version.ref} cannot be coded as differences to {form.reference}, as it is now")
        return edges.EXACT, [objects.register(tx, form.object, form.bytes)]
    config_size = tx.scalar(select(t.objects.c.bytes).where(t.objects.c.digest == version.config)) or 0
    return edges.WEIGHTS, [objects.register(tx, version.weights, version.bytes - config_size)]


def _refuse_if_referred_to(tx: Connection, version: Version) -> None:
    found = edges.pairs(tx, (t.edges.c.needed == version.id) & (t.edges.c.kind == edges.DIFFERENCE))
    if found:
        listed = differing(tx, version)
        raise InUseError(
            f"{version.ref} keeps its exact bytes: {', '.join(listed[:8])} is coded as differences to them",
            hint=f"adapterbank compact {' '.join(listed[:8])} --level original",
            details=[asdict(edge) for edge in edges.labelled(tx, found)],
        )


def _dependents(tx: Connection, version: Version, kind: str) -> list[str]:
    found = edges.pairs(tx, (t.edges.c.needed == version.id) & (t.edges.c.kind == kind))
    label = edges.labels(tx, {dependent for dependent, _, _ in found})
    return sorted(text.removeprefix("version ") for text in label.values())


def _drop(tx: Connection, version: Version, *kinds: str) -> list[int]:
    """Remove the edges of these kinds that start at ``version`` and return where they went."""
    where = (t.edges.c.dependent == version.id) & t.edges.c.kind.in_(kinds)
    needed = [node for _, node, _ in edges.pairs(tx, where)]
    tx.execute(t.edges.delete().where(where))
    return needed
