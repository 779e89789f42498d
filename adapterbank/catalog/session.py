"""An open catalog: transactions of two kinds, one write lock between all processes."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from adapterbank.catalog import connect, doctor, places, upgrade
from adapterbank.catalog.faults import translated
from adapterbank.catalog.filesystem import refuse_network
from adapterbank.catalog.journal import Journal, current
from adapterbank.catalog.places import bank_path as bank_path
from adapterbank.errors import NotFoundError, StorageError, UsageError
from adapterbank.locks import hold

LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Engines:
    """The engines of one process: a connection must never be used on the other side of a fork."""

    pid: int
    reader: Engine
    writer: Engine


class Catalog:
    """The rows of the bank at ``root``. Lock order, for whoever takes both: the vault's lock first, then ``writing``."""

    def __init__(self, root: Path, *, readonly: bool, journal: Journal) -> None:
        self.root, self.readonly, self.journal = root, readonly, journal
        self._path = places.database(root)
        self._engines = self._connect()

    @classmethod
    def open(cls, root: Path | str, *, create: bool = False, readonly: bool = False) -> Catalog:
        """Open the catalog of a bank; ``create`` makes one where none is.

        Raises NotFoundError (no bank there), SchemaError (older or newer than this code), PlatformError (a network file
        system, a database other than SQLite), IntegrityError (not a database), StorageError (may not be read or written).
        """
        if create and readonly:
            raise UsageError("create and readonly exclude each other")
        root = bank_path(root)
        refuse_network(root)
        if create and places.is_empty(root):
            upgrade.create(root)
        if places.is_empty(root):
            raise _no_bank(root)
        catalog = cls(root, readonly=readonly, journal=current())
        found = catalog._revision()
        if found is None and create:  # the first start was killed while it wrote, and the reading undid it
            upgrade.create(root)
            found = catalog._revision()
        if found is None:
            raise _no_bank(root)
        upgrade.check(found, root)
        return catalog

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the catalog and cannot write. Keep it short: a commit waits for it."""
        with translated(self._path), self._own_engines().reader.begin() as tx:
            yield tx

    @contextmanager
    def writing(self, *, dry_run: bool = False) -> Iterator[Connection]:
        """A transaction under the write lock, committed at the end, or rolled back by an error and by ``dry_run``.

        Not re-entrant. Raises BusyError when another process holds the lock for too long.
        """
        if self.readonly:
            raise StorageError(f"the bank at {self.root} was opened read-only", hint="open it without readonly")
        with (
            hold(places.write_lock(self.root), exclusive=True, timeout=LOCK_SECONDS),
            translated(self._path),
            self._own_engines().writer.connect() as tx,
            tx.begin() as transaction,
        ):
            yield tx
            if dry_run:
                transaction.rollback()

    def settings(self) -> dict[str, Any]:
        """What ``doctor`` tells about the database: versions, journal and why, file system, schema, pragmas in force."""
        with self.reading() as tx:
            return doctor.settings(tx, self.root, self.journal)

    def close(self) -> None:
        """Close the connections; the catalog opens new ones if it is used again."""
        self._engines.reader.dispose(close=self._engines.pid == os.getpid())

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _revision(self) -> str | None:
        with self.reading() as tx:
            return upgrade.revision(tx)

    def _own_engines(self) -> _Engines:
        if self._engines.pid != os.getpid():
            self._engines.reader.dispose(close=False)  # the parent's connections stay the parent's
            self._engines = self._connect()
        return self._engines

    def _connect(self) -> _Engines:
        mode = "ro" if self.readonly or _in_wal(self._path) else "rw"
        return _Engines(os.getpid(), connect.reader(self._path, mode), connect.writer(self._path, self.journal))


def _no_bank(root: Path) -> NotFoundError:
    hint = f"adapterbank --bank {shlex.quote(str(root))} init"
    return NotFoundError(f"no bank at {root}: it has no {places.database(root).name}", hint=hint)


def _in_wal(path: Path) -> bool:
    """True if the file is in WAL mode: its readers open it ``ro``, or closing the last of them would checkpoint unlocked."""
    try:
        connection = connect.connect(path, "ro", query_only=True)
        try:
            return connect.journal_mode(connection) == "wal"
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError):
        return False  # the first transaction says what is wrong with it
