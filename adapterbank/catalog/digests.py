"""Row digests: SHA-256 over the fields of a row that matter.

SQLite has no checksum of its own: of single bit flips in a database file a quarter changed row data without any error.
A row of a table in ``PROTECTED`` is written through ``insert`` and ``update`` only, which seal it; what is read by
reference is checked by ``check``. Tags, metrics and notes are free to change and not covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    LargeBinary,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError

from adapterbank.catalog import structure
from adapterbank.catalog import tables as t
from adapterbank.container import canonical_json
from adapterbank.errors import IntegrityError, Problem

PROTECTED: Mapping[str, tuple[str, ...]] = {
    "names": ("id", "kind", "name", "folded", "last_number"),
    "base_models": ("id", "name", "fingerprint", "quantization", "created"),
    "base_model_aliases": ("alias", "base_model_id"),
    "objects": ("id", "digest", "bytes"),
    "versions": (
        "id", "name_id", "number", "base_model_id", "files", "content", "config", "weights", "layout", "kind", "level",
        "dtype", "rank", "alpha", "rslora", "target_modules", "carried", "obstacle", "naming", "parameters",
        "bytes", "parent", "method", "created",
    ),
    "aliases": ("name_id", "alias", "version_id"),
    "alias_events": ("id", "name_id", "alias", "old", "new", "created"),
    "recipes": ("version_id", "method", "body", "residual", "environment"),
    "bases": (
        "id", "name_id", "number", "base_model_id", "layout", "codec", "gauge", "components", "dtype", "object", "bytes",
        "settings", "error_mean", "error_worst", "error_kind", "created",
    ),
    "members": (
        "id", "basis_id", "version_id", "codec", "object", "reference_objects", "bytes", "error", "error_kind",
        "absent", "module_errors",
    ),
    "artefacts": ("id", "family", "kind", "adapters", "object", "bytes", "created"),
    "edges": ("dependent", "needed", "kind"),
}  # fmt: skip

_COLUMNS = {name: tuple(t.metadata.tables[name].c[field] for field in fields) for name, fields in PROTECTED.items()}
_INSERTS = {name: t.metadata.tables[name].insert() for name in PROTECTED}
_UNSEALED = "0" * 64


def row_digest(table: Table, values: Mapping[Any, Any]) -> str:
    """The digest of a row of ``table``; ``values`` maps columns, or their names, to values."""
    fields = [
        _canonical(column, values[column] if column in values else values[column.name]) for column in _COLUMNS[table.name]
    ]
    return hashlib.sha256(canonical_json([table.name, *fields]).encode()).hexdigest()


def insert(tx: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert a sealed row and return its first primary key (an id that the database gives is part of the digest)."""
    row = dict(values)
    given = "id" not in table.c or "id" in row
    row["row_digest"] = row_digest(table, row) if given else _UNSEALED
    key = tx.execute(_INSERTS[table.name], row).inserted_primary_key
    assert key is not None
    if not given:
        row["id"] = key[0]
        tx.execute(table.update().where(table.c.id == key[0]), {"row_digest": row_digest(table, row)})
    return key[0]  # type: ignore[no-any-return]


def update(tx: Connection, table: Table, key: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Change a row and seal it again. The row is checked first: a damaged one must not get a good seal."""
    read, write = _by_key(table, tuple(key))
    wanted = {f"key_{name}": value for name, value in key.items()}
    row = tx.execute(read, wanted).mappings().one()
    check(table, row)
    values = {**{column.name: row[column] for column in table.columns}, **changes}
    tx.execute(write, {**wanted, **changes, "row_digest": row_digest(table, values)})


@cache
def _by_key(table: Table, names: tuple[str, ...]) -> tuple[Select[Any], Update]:
    """Reading and changing the row of this key: building a statement takes as long as running it."""
    where = and_(*(table.c[name] == bindparam(f"key_{name}") for name in names))
    return select(table).where(where), table.update().where(where)


def check(table: Table, row: Mapping[Any, Any]) -> None:
    """Raise IntegrityError unless the row of ``table`` within ``row`` (a joined result, keyed by column) is as sealed."""
    if row_digest(table, row) != row[table.c.row_digest]:
        raise IntegrityError(
            f"{describe(table, row)} is not what its digest says: the database was changed or damaged",
            hint="adapterbank verify lists all damage; restore the catalog from a backup",
        )


def verify_rows(tx: Connection) -> Iterator[Problem]:
    """Every damage that can be seen in the rows: digests, what must refer to what, SQLite's own checks."""
    with _any_text(tx):
        for name in PROTECTED:
            table = t.metadata.tables[name]
            try:
                for row in tx.execute(select(table)).mappings():
                    if row_digest(table, row) != row[table.c.row_digest]:
                        yield Problem("row_digest", "the row is not what its digest says", describe(table, row))
            except (DBAPIError, ValueError, TypeError) as reason:
                yield Problem("unreadable_row", f"a row cannot be read: {reason}", name)
        yield from structure.problems(tx)


def count_rows(tx: Connection) -> int:
    """How many rows ``verify_rows`` checks a digest of."""
    return sum(tx.scalar(select(func.count()).select_from(t.metadata.tables[name])) or 0 for name in PROTECTED)


@contextmanager
def _any_text(tx: Connection) -> Iterator[None]:
    """Let damaged text be read, which is not UTF-8 any more, so that its row can be named."""
    driver: Any = tx.connection.driver_connection
    if tx.dialect.name != "sqlite":
        yield
        return
    before = driver.text_factory
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = before


def describe(table: Table, row: Mapping[Any, Any]) -> str:
    """The row's table and primary key, for messages."""
    key = ", ".join(f"{column.name} {row[column]}" for column in table.primary_key)
    return f"row of {table.name} ({key})"


def _canonical(column: Column[Any], value: Any) -> Any:
    """The value as JSON, the same before it is written and after it is read back."""
    if value is None or isinstance(value, str):  # damage may also have put text where a number belongs
        return value
    if isinstance(column.type, LargeBinary):
        return bytes(value).hex()
    if isinstance(column.type, Boolean):
        return bool(value)
    if isinstance(column.type, Float):
        return repr(float(value) + 0.0)  # SQLite keeps no sign of zero; JSON has no infinity
    return value if isinstance(value, int) else repr(value)
