"""What needs what: one table of edges, enforced by the database (ON DELETE RESTRICT), told with readable labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from adapterbank.catalog import digests
from adapterbank.catalog.rows import Edge
from adapterbank.catalog.tables import aliases, artefacts, bases, edges, members, names, objects, versions

WEIGHTS, CONFIG, BASIS, FORM = "weights", "config", "basis", "form"
EXACT, DIFFERENCE = "exact", "difference"  # to the coded object, and to the version whose bytes decoding it needs
ARTEFACT, OF, USING = "artefact", "of", "using"  # artefact to its object, to its versions; merge to the artefacts it used
BOUNDED, MEMBER, REFERENCE, CONSTITUENT, ALIAS = "bounded", "member", "reference", "constituent", "alias"
_CHUNK = 500


def add(tx: Connection, dependent: int, needed: int, kind: str) -> None:
    """Record that node ``dependent`` needs node ``needed``; ``needed`` can then not be removed."""
    digests.insert(tx, edges, {"dependent": dependent, "needed": needed, "kind": kind})


def dependents(tx: Connection, node: int) -> list[Edge]:
    """Everything that directly needs ``node``, aliases included."""
    return labelled(tx, pairs(tx, edges.c.needed == node)) + pointing(tx, [node])


def needs(tx: Connection, node: int) -> list[Edge]:
    """Everything that ``node`` directly needs, objects included."""
    return labelled(tx, pairs(tx, edges.c.dependent == node))


def pairs(tx: Connection, where: ColumnElement[bool]) -> list[tuple[int, int, str]]:
    """The edges that satisfy ``where`` as (dependent, needed, kind), in a stable order."""
    statement = select(edges.c.dependent, edges.c.needed, edges.c.kind).where(where)
    return [(row[0], row[1], row[2]) for row in tx.execute(statement.order_by(edges.c.needed, edges.c.dependent, edges.c.kind))]


def pointing(tx: Connection, nodes: Collection[int]) -> list[Edge]:
    """The aliases of these versions, as edges."""
    statement = (
        select(names.c.name, aliases.c.alias, versions.c.number)
        .join_from(aliases, versions, aliases.c.version_id == versions.c.id)
        .join(names, names.c.id == aliases.c.name_id)
        .where(aliases.c.version_id.in_(nodes))
        .order_by(names.c.name, aliases.c.alias)
    )
    return [Edge(f"alias {name}@{alias}", f"version {name}@{number}", ALIAS) for name, alias, number in tx.execute(statement)]


def labelled(tx: Connection, found: Iterable[tuple[int, int, str]]) -> list[Edge]:
    """Edges between ids as edges between labels."""
    found = list(found)
    label = labels(tx, {node for dependent, needed, _ in found for node in (dependent, needed)})
    return [Edge(label[dependent], label[needed], kind) for dependent, needed, kind in found]


def labels(tx: Connection, nodes: Collection[int]) -> dict[int, str]:
    """A readable label per node: ``version sql@1``, ``basis b1@2``, ``member sql@1 of b1@2``, ``form rd of sql@1`` …"""
    wanted, found = sorted(nodes), dict.fromkeys(nodes, "a node without a row")
    for start in range(0, len(wanted), _CHUNK):
        for statement, text in _labels(wanted[start : start + _CHUNK]):
            found |= {node: text.format(*parts) for node, *parts in tx.execute(statement)}
    return found


def _labels(nodes: list[int]) -> Iterable[tuple[Select[Any], str]]:
    basis_names = names.alias()
    numbered = select(versions.c.id, names.c.name, versions.c.number).join_from(versions, names)
    yield numbered.where(versions.c.id.in_(nodes)), "version {}@{}"
    numbered = select(bases.c.id, names.c.name, bases.c.number).join_from(bases, names)
    yield numbered.where(bases.c.id.in_(nodes)), "basis {}@{}"
    yield select(objects.c.id, objects.c.digest).where(objects.c.id.in_(nodes)), "object sha256:{:.12}"
    made = select(artefacts.c.id, artefacts.c.kind, artefacts.c.object).where(artefacts.c.id.in_(nodes))
    yield made, "artefact {} sha256:{:.12}"
    yield (
        select(members.c.id, names.c.name, versions.c.number, basis_names.c.name, bases.c.number)
        .join_from(members, versions, versions.c.id == members.c.version_id)
        .join(names, names.c.id == versions.c.name_id)
        .join(bases, bases.c.id == members.c.basis_id)
        .join(basis_names, basis_names.c.id == bases.c.name_id)
        .where(members.c.id.in_(nodes)),
        "member {}@{} of {}@{}",
    )
    yield (
        select(members.c.id, members.c.codec, names.c.name, versions.c.number)
        .join_from(members, versions, versions.c.id == members.c.version_id)
        .join(names, names.c.id == versions.c.name_id)
        .where(members.c.id.in_(nodes), members.c.basis_id.is_(None)),
        "form {} of {}@{}",
    )
