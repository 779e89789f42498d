"""Artefacts, what calibration made once so that a merge needs no data again: statistics of a version, coefficients of several.

Each is one object of the vault, a row, and edges: to its object, and to the versions that it was made for. Statistics belong to
their version and go with it; coefficients hold their versions, and a merge holds the artefacts that it used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from adapterbank.catalog import digests, edges, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.clock import now
from adapterbank.catalog.rows import Artefact, NewArtefact, Version
from adapterbank.container import canonical_json
from adapterbank.errors import ConflictError, NotFoundError, UsageError

STATISTICS, COEFFICIENTS = "statistics", "coefficients"
_PREFIX = re.compile(r"sha256:([0-9a-f]{4,64})")
_LIST = "adapterbank artefacts list"
_OF = (
    select(t.edges.c.dependent, t.names.c.name, t.versions.c.number)
    .join_from(t.edges, t.versions, t.versions.c.id == t.edges.c.needed)
    .join(t.names, t.names.c.id == t.versions.c.name_id)
    .where(t.edges.c.kind == edges.OF)
    .order_by(t.names.c.name, t.versions.c.number)
)


def add(tx: Connection, new: NewArtefact, versions: Sequence[Version]) -> Artefact:
    """Record an artefact of ``versions``, whose contents it names; its bytes must be in the vault. The same object again is the
    artefact that is there. Raises UsageError if ``adapters`` are not the contents of ``versions``."""
    if sorted(new.adapters) != sorted(version.content for version in versions):
        refs = ", ".join(version.ref for version in versions)
        raise UsageError(f"an artefact of {len(new.adapters)} adapters is not one of {refs}")
    known = _select(tx, t.artefacts.c.object == new.object)
    if known:
        return known[0]
    node = objects.new_node(tx, "artefact")
    values = {"id": node, "family": new.family, "kind": new.kind, "object": new.object, "bytes": new.bytes, "created": now()}
    digests.insert(tx, t.artefacts, {**values, "adapters": canonical_json(sorted(new.adapters))})
    edges.add(tx, node, objects.register(tx, new.object, new.bytes), edges.ARTEFACT)
    for version in {version.id for version in versions}:
        edges.add(tx, node, version, edges.OF)
    return _select(tx, t.artefacts.c.id == node)[0]


def get(tx: Connection, ref: str) -> Artefact:
    """The artefact ``sha256:PREFIX`` (of its object, four digits at least). Raises UsageError, NotFoundError, ConflictError."""
    match = _PREFIX.fullmatch(ref)
    if match is None:
        raise UsageError(f"artefact {ref!r}: expected sha256: and the first digits of its object", hint=_LIST)
    low = match[1]
    found = _select(tx, (t.artefacts.c.object >= low) & (t.artefacts.c.object < low + "g"))
    if not found:
        raise NotFoundError(f"no artefact {ref}", hint=_LIST)
    if len(found) > 1:
        shown = ", ".join(f"{each.ref} ({each.kind})" for each in found[:8])
        raise ConflictError(f"{ref} is ambiguous: {shown}", hint="give more digits")
    return found[0]


def of_objects(tx: Connection, wanted: Iterable[str]) -> list[Artefact]:
    """The artefacts with these objects, in this order. Raises NotFoundError for one that is not there."""
    found = []
    for digest in wanted:
        rows = _select(tx, t.artefacts.c.object == digest)
        if not rows:
            raise NotFoundError(f"no artefact sha256:{digest[:12]}: it was removed, or is another bank's", hint=_LIST)
        found.append(rows[0])
    return found


def newest(tx: Connection, kind: str, adapters: Sequence[str]) -> Artefact | None:
    """The newest artefact of ``kind`` made for exactly these contents, in any order."""
    c = t.artefacts.c
    found = _select(tx, (c.kind == kind) & (c.adapters == canonical_json(sorted(adapters))))
    return found[-1] if found else None


def listing(
    tx: Connection, *, family: str | None = None, kind: str | None = None, version: Version | None = None
) -> list[Artefact]:
    """Artefacts, oldest first: all, or those of a family, a kind, a version."""
    c, where = t.artefacts.c, t.artefacts.c.id > 0
    where = where if family is None else where & (c.family == family)
    where = where if kind is None else where & (c.kind == kind)
    if version is not None:
        of = select(t.edges.c.dependent).where(t.edges.c.kind == edges.OF, t.edges.c.needed == version.id)
        where = where & c.id.in_(of)
    return _select(tx, where)


def used_by(tx: Connection, version: Version) -> list[Artefact]:
    """The artefacts that a merge used."""
    used = select(t.edges.c.needed).where(t.edges.c.kind == edges.USING, t.edges.c.dependent == version.id)
    return _select(tx, t.artefacts.c.id.in_(used))


def _select(tx: Connection, where: ColumnElement[bool]) -> list[Artefact]:
    """The artefacts that satisfy ``where`` by age, each row checked."""
    rows = tx.execute(select(t.artefacts).where(where).order_by(t.artefacts.c.id)).mappings().all()
    for row in rows:
        digests.check(t.artefacts, row)
    refs: dict[int, list[str]] = {row["id"]: [] for row in rows}
    for node, name, number in tx.execute(_OF.where(t.edges.c.dependent.in_(list(refs)))):
        refs[node].append(f"{name}@{number}")
    return [_value(row, refs[row["id"]]) for row in rows]


def _value(row: RowMapping, refs: Iterable[str]) -> Artefact:
    copied = {field: row[field] for field in ("id", "family", "kind", "object", "bytes", "created")}
    return Artefact(**copied, adapters=tuple(json.loads(row["adapters"])), versions=tuple(refs))
