"""Tags: short texts by key that people put on a version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam

from adapterbank.catalog import tables as t
from adapterbank.errors import UsageError
from adapterbank.refs import check_name

_DELETE = t.tags.delete().where(t.tags.c.version_id == bindparam("of"), t.tags.c.key == bindparam("named"))
_INSERT = t.tags.insert()
_LONGEST = 500  # characters: the value is part of an index


def put(tx: Connection, version_id: int, tags: Mapping[str, str]) -> None:
    """Write tags, replacing those of the same key. Raises UsageError for a key or value that is not allowed."""
    for key, value in tags.items():
        check_name(key, "tag")
        if len(value) > _LONGEST or "\0" in value:
            raise UsageError(f"tag {key!r} has {len(value)} characters: expected at most {_LONGEST}, and no NUL")
    remove(tx, version_id, tags)  # delete and insert instead of a dialect's upsert: the write lock makes the pair safe
    if tags:
        tx.execute(_INSERT, [{"version_id": version_id, "key": key, "value": value} for key, value in tags.items()])


def remove(tx: Connection, version_id: int, keys: Iterable[str]) -> None:
    """Remove tags; a key that is not there is fine."""
    for key in keys:
        tx.execute(_DELETE, {"of": version_id, "named": key})
