"""Connections to SQLite: one creator that sets every pragma, engines that say BEGIN themselves.

``isolation_level=None`` takes the transaction out of the driver's hands: its own way leaves half a migration behind and
lets a read turn into a write that fails at once under contention. Readers say BEGIN, writers BEGIN IMMEDIATE.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from adapterbank.catalog.journal import Journal

BUSY_MS = 30_000
_PRAGMAS = ("synchronous=FULL", "mmap_size=0", "cell_size_check=ON", "trusted_schema=OFF")


def connect(path: Path, mode: str, *, query_only: bool = False, foreign_keys: bool = True) -> sqlite3.Connection:
    """Open ``path`` in ``mode`` (``ro``, ``rw``, ``rwc``) outside of any transaction."""
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    # Without the thread check a pooled connection may be handed to another thread; SQLAlchemy hands it to one at a time.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    for pragma in (*_PRAGMAS, f"foreign_keys={'ON' if foreign_keys else 'OFF'}", f"query_only={'ON' if query_only else 'OFF'}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def set_journal(connection: sqlite3.Connection, journal: Journal) -> str:
    """Ask for the journal mode and return the one in force: a change of WAL waits until nobody else has the file open."""
    connection.execute("PRAGMA busy_timeout=0")
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute(f"PRAGMA journal_mode={journal.mode}")
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    return journal_mode(connection)


def journal_mode(connection: sqlite3.Connection) -> str:
    """The journal mode in force."""
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def reader(path: Path, mode: str) -> Engine:
    """An engine for reads: connections are kept, may not write, and hold no lock between transactions."""
    return _engine(lambda: connect(path, mode, query_only=True), QueuePool, "BEGIN")


def writer(path: Path, journal: Journal, *, mode: str = "rw", foreign_keys: bool = True) -> Engine:
    """An engine for writes. Each connection is closed at once, so that also its checkpoint falls under the write lock."""

    def create() -> sqlite3.Connection:
        connection = connect(path, mode, foreign_keys=foreign_keys)
        set_journal(connection, journal)
        return connection

    return _engine(create, NullPool, "BEGIN IMMEDIATE")


def _engine(create: Callable[[], sqlite3.Connection], pool: type[NullPool | QueuePool], begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=create, poolclass=pool)

    def say_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", say_begin)
    return engine
