"""Bases: a name with immutable versions ``b1@2``, each the rows of its members and what they share, one object of the vault."""

from __future__ import annotations

from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, RowMapping, Select, func, select

from adapterbank.catalog import base_models, digests, edges, layouts, names, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.clock import now
from adapterbank.catalog.rows import Basis, NewBasis
from adapterbank.errors import NotFoundError, UsageError
from adapterbank.lora.layout import Layout
from adapterbank.refs import Ref

_OWN = t.members.c.basis_id == t.bases.c.id
_COUNT = select(func.count()).where(_OWN).scalar_subquery().label("member_count")
_BYTES = select(func.coalesce(func.sum(t.members.c.bytes), 0)).where(_OWN).scalar_subquery().label("members_bytes")
_ROWS = (
    select(t.bases, t.names, t.base_models, _COUNT, _BYTES)
    .join_from(t.bases, t.names, t.names.c.id == t.bases.c.name_id)
    .join(t.base_models, t.base_models.c.id == t.bases.c.base_model_id)
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
)
_COPIED = ("codec", "gauge", "components", "dtype", "object", "bytes", "settings", "error_mean", "error_worst", "error_kind")


def add(tx: Connection, new: NewBasis) -> Basis:
    """Add the next version of the basis ``new.name``; its bytes must be in the vault.

    Raises ConflictError if the name differs only in case from another one.
    """
    name_id, number = names.claim(tx, names.BASIS, new.name)
    node = objects.new_node(tx, "basis")
    values = {
        "id": node,
        "name_id": name_id,
        "number": number,
        "base_model_id": base_models.get_or_create(tx, new.base_model).id,
        "layout": layouts.put(tx, new.layout),
        "created": now(),
        **{field: getattr(new, field) for field in _COPIED},
    }
    digests.insert(tx, t.bases, values)
    if new.object is not None:
        edges.add(tx, node, objects.register(tx, new.object, new.bytes), edges.BASIS)
    return get(tx, Ref(name=new.name, version=number))


def get(tx: Connection, ref: str | Ref) -> Basis:
    """The basis of ``b1`` (newest) or ``b1@2``, its rows checked.

    Raises UsageError for other forms of reference, NotFoundError, IntegrityError for a damaged row.
    """
    ref = Ref.parse(ref) if isinstance(ref, str) else ref
    if ref.name is None or ref.alias is not None:
        raise UsageError(f"basis {str(ref)!r}: expected a name, or name@number")
    row = tx.execute(_of(ref).order_by(t.bases.c.number.desc()).limit(1)).mappings().first()
    if row is None:
        raise _missing(tx, ref.name, str(ref))
    for table in (t.bases, t.names, t.base_models):
        digests.check(table, row)
    return _value(row, layouts.load(tx, [row[t.bases.c.layout]])[row[t.bases.c.layout]])


def listing(tx: Connection, name: str | None = None) -> list[Basis]:
    """All bases by name and number, of one name if given."""
    statement = _ROWS if name is None else _of(Ref(name=name))
    rows = tx.execute(statement.order_by(t.names.c.name, t.bases.c.number)).mappings().all()
    shapes = layouts.load(tx, (row[t.bases.c.layout] for row in rows))
    return [_value(row, shapes[row[t.bases.c.layout]]) for row in rows]


def _of(ref: Ref) -> Select[Any]:
    statement = _ROWS.where(t.names.c.kind == names.BASIS, t.names.c.name == ref.name)
    return statement if ref.version is None else statement.where(t.bases.c.number == ref.version)


def _missing(tx: Connection, name: str, ref: str) -> NotFoundError:
    """The error for a basis that is not there: another version of it may be."""
    others = _of(Ref(name=name)).with_only_columns(t.bases.c.number).order_by(t.bases.c.number)
    if numbers := ", ".join(map(str, tx.execute(others).scalars())):
        return NotFoundError(f"no basis {ref!r} ({name!r} has versions {numbers})", hint=f"adapterbank basis list {name}")
    twin = names.twin(tx, names.BASIS, name)
    return NotFoundError(f"no basis is called {ref!r}", hint=f"did you mean {twin!r}?" if twin else "adapterbank basis list")


def _value(row: RowMapping, layout: Layout) -> Basis:
    c = t.bases.c
    return Basis(
        id=row[c.id],
        name=row[t.names.c.name],
        number=row[c.number],
        base_model=row[t.base_models.c.name],
        layout=layout,
        created=row[c.created],
        members=row["member_count"],
        members_bytes=row["members_bytes"],
        **{field: row[c[field]] for field in _COPIED},
    )
