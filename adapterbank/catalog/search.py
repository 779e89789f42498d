"""Lists of versions: filtered by an expression, sorted by fields or metrics, without a query per version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, UnaryExpression, select

from adapterbank.catalog import names as name_rows
from adapterbank.catalog import records
from adapterbank.catalog import tables as t
from adapterbank.catalog.conditions import FIELDS, Compiler
from adapterbank.catalog.expression import parse
from adapterbank.catalog.rows import Version
from adapterbank.errors import NotFoundError, UsageError


def versions(
    tx: Connection,
    *,
    where: str | None = None,
    names: Sequence[str] | None = None,
    sort: str | None = None,
    limit: int | None = None,
) -> list[Version]:
    """Versions that satisfy the expression ``where``, of the adapters ``names``, in the order ``sort``, at most ``limit``.

    ``sort`` is a field, a metric or several of them with commas, ``-`` before one for descending; by name and number
    without it. Raises UsageError (with a caret for an expression), NotFoundError for a name that was never used.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"limit {limit}: expected 0 or more")
    statement = records.ROWS
    if not sort:  # true of every row; it lets the database walk the names in order and stop, instead of sorting all versions
        statement = statement.where(t.names.c.kind == name_rows.ADAPTER)
    if where is not None:
        statement = statement.where(Compiler(tx, where).condition(parse(where)))
    if names is not None:
        for name in names:
            if name_rows.find(tx, name_rows.ADAPTER, name) is None:
                raise NotFoundError(f"no adapter is called {name!r}", hint="adapterbank list")
        statement = statement.where(t.names.c.name.in_(names))
    statement = statement.order_by(*_order(tx, sort), t.names.c.name, t.versions.c.number).limit(limit)
    return records.several(tx, tx.execute(statement).mappings())


def _order(tx: Connection, sort: str | None) -> Iterator[UnaryExpression[object]]:
    for part in sort.split(",") if sort else ():
        name = part.strip()
        column = _sort_column(tx, name.removeprefix("-"))
        yield (column.desc() if name.startswith("-") else column.asc()).nulls_last()


def _sort_column(tx: Connection, name: str) -> ColumnElement[object]:
    if name in FIELDS:
        return FIELDS[name][0]
    if name == "id":
        return t.versions.c.id
    key = name.removeprefix("metric.")
    known = sorted(tx.scalars(select(t.metrics.c.key).distinct()))
    if key not in known:
        raise UsageError(
            f"cannot sort by {name!r}: expected one of {', '.join([*FIELDS, 'id'])}, or a metric ({', '.join(known) or 'none'})"
        )
    value = select(t.metrics.c.value).where(t.metrics.c.version_id == t.versions.c.id, t.metrics.c.key == key)
    return value.scalar_subquery()
