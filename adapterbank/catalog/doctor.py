"""What the catalog knows about its own settings."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection

from adapterbank.catalog import places, upgrade
from adapterbank.catalog.filesystem import mount_of
from adapterbank.catalog.journal import Journal, is_wal_safe

_PRAGMAS = (
    "journal_mode",
    "synchronous",
    "foreign_keys",
    "busy_timeout",
    "mmap_size",
    "cell_size_check",
    "trusted_schema",
    "query_only",
)


def settings(tx: Connection, root: Path, journal: Journal) -> dict[str, Any]:
    """Versions, the journal in force and why, the file system, the schema, and the pragmas of a reader's connection."""
    mount = mount_of(root)
    pragmas = {name: tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in _PRAGMAS}
    if pragmas["journal_mode"] != "wal" and journal.mode != "wal":
        pragmas["journal_mode"] = journal.mode  # the kind of rollback journal is up to each connection that writes
    return {
        "database": str(places.database(root)),
        "bytes": places.database(root).stat().st_size,
        "sqlite_version": sqlite3.sqlite_version,
        "sqlalchemy_version": sqlalchemy.__version__,
        "wal_reset_bug": "fixed" if is_wal_safe(sqlite3.sqlite_version_info[:3]) else "possibly affected",
        "journal_wanted": journal.mode,
        "journal_why": journal.why,
        "file_system": mount.type,
        "mount_point": mount.point,
        "schema_revision": upgrade.revision(tx),
        "schema_head": upgrade.HEAD,
        **pragmas,
    }
