"""Which journal SQLite may use: WAL only where its reset bug is fixed.

From 3.7.0 to 3.51.2 a checkpoint that meets a writer could lose committed transactions or damage the database
(sqlite.org/wal.html#walresetbug). Rollback journals are not affected; TRUNCATE is the fastest of them that fsyncs.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 44): 6, (3, 50): 7}


@dataclass(frozen=True, slots=True)
class Journal:
    """``mode`` is ``wal`` or ``truncate``; ``why`` is for people."""

    mode: str
    why: str


def is_wal_safe(version: tuple[int, int, int]) -> bool:
    """True if this SQLite has the fix of the WAL-reset bug. A distribution may have patched an older one without saying."""
    backport = _BACKPORTS.get(version[:2])
    return version >= _FIXED or (backport is not None and version[2] >= backport)


def choose(version: tuple[int, int, int]) -> Journal:
    """The journal for a SQLite of this version."""
    text = ".".join(map(str, version))
    if is_wal_safe(version):
        return Journal("wal", f"SQLite {text} has the fix of the WAL-reset bug")
    return Journal("truncate", f"SQLite {text} is possibly affected by the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6)")


def current() -> Journal:
    """The journal for the SQLite that Python uses here."""
    return choose(sqlite3.sqlite_version_info[:3])
