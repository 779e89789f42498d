"""Names of adapters and bases, and the numbers given under them: a number is never given twice."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, bindparam, select

from adapterbank.catalog import digests
from adapterbank.catalog.tables import names
from adapterbank.errors import ConflictError
from adapterbank.refs import check_name

ADAPTER, BASIS = "adapter", "basis"
_FOLDED = select(names).where(names.c.kind == bindparam("kind"), names.c.folded == bindparam("folded"))


def claim(tx: Connection, kind: str, name: str) -> tuple[int, int]:
    """The id of ``name`` (made if new) and its next number; the write lock makes this safe without a retry.

    Raises UsageError for a name that is not allowed, ConflictError for one that differs only in case from another: on some
    file systems the two would be one directory.
    """
    check_name(name)
    row = _folded(tx, kind, name)
    if row is None:
        values = {"kind": kind, "name": name, "folded": name.casefold(), "last_number": 1}
        return digests.insert(tx, names, values), 1
    if row["name"] != name:
        raise ConflictError(
            f"{kind} name {name!r} differs only in case from {row['name']!r}, which exists",
            hint=f"use {row['name']!r} or another name",
        )
    number = row["last_number"] + 1
    digests.update(tx, names, {"id": row["id"]}, {"last_number": number})
    return row["id"], number


def find(tx: Connection, kind: str, name: str) -> int | None:
    """The id of a name that was ever used, also when everything under it was removed."""
    row = _folded(tx, kind, name)
    return row["id"] if row is not None and row["name"] == name else None


def twin(tx: Connection, kind: str, name: str) -> str | None:
    """A name that differs from ``name`` in case only, to suggest it."""
    row = _folded(tx, kind, name)
    return row["name"] if row is not None and row["name"] != name else None


def _folded(tx: Connection, kind: str, name: str) -> RowMapping | None:
    return tx.execute(_FOLDED, {"kind": kind, "folded": name.casefold()}).mappings().first()
