"""What must refer to what: checks over the whole catalog that no digest of a single row can make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, or_, select
from sqlalchemy.exc import DBAPIError

from adapterbank.catalog import tables as t
from adapterbank.errors import Problem

_KINDS = {"version": t.versions, "basis": t.bases, "member": t.members, "artefact": t.artefacts, "object": t.objects}


def problems(tx: Connection) -> Iterator[Problem]:
    """Every contradiction between rows, then what SQLite finds in its own file."""
    try:
        yield from _layouts(tx)
        yield from _nodes(tx)
        yield from _numbers(tx)
        yield from _objects(tx)
        yield from _forms(tx)
        yield from _coded(tx)
        yield from _artefacts(tx)
    except DBAPIError as reason:
        yield Problem("unreadable_row", f"a row cannot be read: {reason.orig}", "catalog.db")
    if tx.dialect.name == "sqlite":
        yield from _sqlite(tx)


def _layouts(tx: Connection) -> Iterator[Problem]:
    for digest, body in tx.execute(select(t.layouts)):
        if hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest() != digest:
            yield Problem(
                "layout_digest", "the module shapes are not what their digest says", f"row of layouts (digest {digest[:12]})"
            )


def _nodes(tx: Connection) -> Iterator[Problem]:
    """Each node has the row that its kind says."""
    for kind, table in _KINDS.items():
        lonely = (
            select(t.nodes.c.id)
            .outerjoin(table, table.c.id == t.nodes.c.id)
            .where(t.nodes.c.kind == kind, table.c.id.is_(None))
        )
        for node in tx.scalars(lonely):
            yield Problem("node_kind", f"no {kind} has this id", f"row of nodes (id {node})")


def _numbers(tx: Connection) -> Iterator[Problem]:
    """No number is beyond the last one given, or it would be given again."""
    for table in (t.versions, t.bases):
        statement = select(t.names.c.name, t.names.c.last_number).join_from(t.names, table, table.c.name_id == t.names.c.id)
        over = statement.group_by(t.names.c.id).having(func.max(table.c.number) > t.names.c.last_number)
        for name, number in tx.execute(over):
            yield Problem("last_number", f"{name} has versions beyond the last number given, {number}", "names")


def _objects(tx: Connection) -> Iterator[Problem]:
    """Each row has the edge to the object that it names."""
    original = t.versions.c.level == "original"
    yield from _without_object(tx, t.versions, "config", "config")
    yield from _without_object(tx, t.versions, "weights", "weights", original)
    yield from _without_object(tx, t.bases, "object", "basis", t.bases.c.object.is_not(None))
    yield from _without_object(tx, t.members, "object", "form")
    yield from _without_object(tx, t.artefacts, "object", "artefact")


def _without_object(tx: Connection, table: Table, column: str, kind: str, *where: ColumnElement[bool]) -> Iterator[Problem]:
    edge = and_(t.edges.c.dependent == table.c.id, t.edges.c.kind == kind)
    statement = select(table.c.id).outerjoin(t.edges, edge).outerjoin(t.objects, t.objects.c.id == t.edges.c.needed)
    wrong = or_(t.objects.c.digest.is_(None), t.objects.c.digest != table.c[column])
    for node in tx.scalars(statement.where(wrong, *where)):
        yield Problem(
            "edge", f"the edge {kind!r} to its object is missing or leads elsewhere", f"row of {table.name} (id {node})"
        )


def _forms(tx: Connection) -> Iterator[Problem]:
    """Each form needs its basis and what it was coded against, and each bounded version a form of its own."""
    edge = and_(t.edges.c.dependent == t.members.c.id, t.edges.c.kind == "member")
    statement = select(t.members.c.id).outerjoin(t.edges, edge)
    for node in tx.scalars(statement.where(t.edges.c.needed.is_distinct_from(t.members.c.basis_id))):
        yield Problem("edge", "the edge 'member' to its basis is missing or leads elsewhere", f"row of members (id {node})")
    yield from _references(tx)
    edge = and_(t.edges.c.dependent == t.versions.c.id, t.edges.c.kind == "bounded")
    held = select(t.versions.c.id).outerjoin(t.edges, edge).outerjoin(t.members, t.members.c.id == t.edges.c.needed)
    wrong = or_(t.members.c.id.is_(None), t.members.c.version_id != t.versions.c.id)
    for node in tx.scalars(held.where(t.versions.c.level == "bounded", wrong)):
        yield Problem("edge", "no stored form stands for this bounded version", f"row of versions (id {node})")


def _coded(tx: Connection) -> Iterator[Problem]:
    """Each exact version has a coded object; what it is a difference to keeps its exact bytes and is no difference itself."""
    edge = and_(t.edges.c.dependent == t.versions.c.id, t.edges.c.kind == "exact")
    held = select(t.versions.c.id).outerjoin(t.edges, edge).outerjoin(t.objects, t.objects.c.id == t.edges.c.needed)
    for node in tx.scalars(held.where(t.versions.c.level == "exact", t.objects.c.id.is_(None))):
        yield Problem("edge", "the edge 'exact' to its coded object is missing", f"row of versions (id {node})")
    other, further = t.versions.alias(), t.edges.alias()
    chained = and_(further.c.dependent == other.c.id, further.c.kind == "difference")
    joined = select(t.edges.c.dependent).outerjoin(other, other.c.id == t.edges.c.needed).outerjoin(further, chained)
    wrong = or_(other.c.id.is_(None), other.c.level == "bounded", further.c.needed.is_not(None))
    for node in tx.scalars(joined.where(t.edges.c.kind == "difference", wrong)):
        yield Problem(
            "edge", "the edge 'difference' leads to a version without bytes of its own", f"row of versions (id {node})"
        )


def _references(tx: Connection) -> Iterator[Problem]:
    """A form that was coded against others has an edge to each: forms of the same basis, with the objects that it names."""
    other, c = t.members.alias(), t.members.c
    joined = select(t.edges.c.dependent, other.c.object).join_from(t.edges, t.members, c.id == t.edges.c.dependent)
    joined = joined.join(other, and_(other.c.id == t.edges.c.needed, other.c.basis_id.is_not_distinct_from(c.basis_id)))
    found: dict[int, set[str]] = {}
    for node, digest in tx.execute(joined.where(t.edges.c.kind == "reference")):
        found.setdefault(node, set()).add(digest)
    rows = tx.execute(select(c.id, c.reference_objects).where(c.reference_objects != "[]"))
    named = {node: _listed(text) for node, text in rows}
    for node in sorted({*found, *named}):
        if found.get(node, set()) != named.get(node, set()):
            said = "the edges 'reference' to what it was coded against are missing or lead elsewhere"
            yield Problem("edge", said, f"row of members (id {node})")


def _artefacts(tx: Connection) -> Iterator[Problem]:
    """Each artefact has an edge to a version of every content that it was made for, each merge one to what it used."""
    of = and_(t.edges.c.dependent == t.artefacts.c.id, t.edges.c.kind == "of")
    joined = t.artefacts.outerjoin(t.edges, of).outerjoin(t.versions, t.versions.c.id == t.edges.c.needed)
    made = select(t.artefacts.c.id, t.artefacts.c.adapters, t.versions.c.content).select_from(joined)
    yield from _unlike(tx.execute(made), "of", "artefacts", _listed)
    using = and_(t.edges.c.dependent == t.recipes.c.version_id, t.edges.c.kind == "using")
    joined = t.recipes.outerjoin(t.edges, using).outerjoin(t.artefacts, t.artefacts.c.id == t.edges.c.needed)
    used = select(t.recipes.c.version_id, t.recipes.c.body, t.artefacts.c.object).select_from(joined)
    yield from _unlike(tx.execute(used), "using", "recipes", _used)


def _unlike(rows: Iterable[Any], kind: str, table: str, named: Callable[[str], set[str] | None]) -> Iterator[Problem]:
    """Rows (id, text, digest at the end of an edge) whose edges do not lead to exactly what the text names."""
    texts: dict[int, str] = {}
    found: dict[int, set[str]] = {}
    for node, text, digest in rows:
        texts[node] = text
        found.setdefault(node, set()).update([] if digest is None else [digest])
    for node, text in texts.items():
        if found[node] != named(text):
            yield Problem("edge", f"the edges {kind!r} are missing or lead elsewhere", f"row of {table} (id {node})")


def _used(body: str) -> set[str] | None:
    """The objects of the artefacts in the body of a recipe."""
    try:
        return set(json.loads(body).get("artefacts", ()))
    except (ValueError, TypeError, AttributeError):
        return None


def _listed(text: str) -> set[str] | None:
    """The digests of a list, None for what is none: its row digest tells of that damage."""
    try:
        return set(json.loads(text))
    except (ValueError, TypeError):
        return None


def _sqlite(tx: Connection) -> Iterator[Problem]:
    try:
        for (text,) in tx.exec_driver_sql("PRAGMA integrity_check"):
            if text != "ok":
                yield Problem("database_damaged", str(text), "catalog.db")
        for row in tx.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Problem(
                "foreign_key", f"a row of {row[0]} refers to a row of {row[2]} that does not exist", f"row {row[1]} of {row[0]}"
            )
    except DBAPIError as reason:
        yield Problem("database_damaged", str(reason.orig), "catalog.db")
