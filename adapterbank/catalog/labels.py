"""Labels: the tags, metrics and note of a version, which may change without making another version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from adapterbank.catalog import metrics as metric_rows
from adapterbank.catalog import tables as t
from adapterbank.catalog import tags as tag_rows
from adapterbank.catalog import versions
from adapterbank.catalog.rows import Version
from adapterbank.errors import UsageError
from adapterbank.refs import Ref

_LONGEST_NOTE = 65_536


def label(
    tx: Connection,
    version: Version,
    *,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    note: str | None = None,
    untag: Iterable[str] = (),
) -> Version:
    """Change the labels of a version and return it as it is now.

    ``untag`` removes tags by key, a metric of None is removed, an empty ``note`` removes the note. Raises UsageError for
    keys and values that are not allowed.
    """
    tag_rows.remove(tx, version.id, untag)
    tag_rows.put(tx, version.id, tags or {})
    metric_rows.put(tx, version.id, metrics or {})
    if note is not None:
        tx.execute(t.versions.update().where(t.versions.c.id == version.id), {"note": check_note(note) or None})
    return versions.get(tx, Ref(name=version.name, version=version.number))


def check_note(note: str) -> str:
    """Return a note that is not endless."""
    if len(note) > _LONGEST_NOTE or "\0" in note:
        raise UsageError(f"the note has {len(note)} characters: expected at most {_LONGEST_NOTE}, and no NUL")
    return note
