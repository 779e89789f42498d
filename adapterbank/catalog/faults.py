"""SQLite's errors as ours, translated once at the edge of every transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from adapterbank.errors import (
    AdapterBankError,
    BusyError,
    ConflictError,
    IntegrityError,
    InUseError,
    StorageError,
)

_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_DISK = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_NOLFS")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
_REFERENCE = ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER")
_VERIFY = "adapterbank verify; restore the catalog from a backup if it is damaged"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite or SQLAlchemy raise in the block as one of our errors; ``path`` is the database, for messages."""
    try:
        yield
    except DBAPIError as error:
        original = error.orig if isinstance(error.orig, Exception) else error
        raise translate(original, path, error.statement or "") from error
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:  # SQLite's message quotes damaged text
        raise IntegrityError(f"{path} is damaged: {error}", hint=_VERIFY) from error


def translate(error: Exception, path: Path, statement: str = "") -> AdapterBankError:
    """Our error for one of sqlite3, by its extended code."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_BUSY):
        return BusyError(f"{path} is locked by another process for too long ({error})", hint="try again when it is done")
    if name == "SQLITE_READONLY_ROLLBACK":
        return StorageError(
            f"{path} holds a write that was cut short and a read-only opening may not undo it",
            hint="open the bank once for writing (adapterbank doctor), then again read-only",
        )
    if name.startswith(_DISK):
        return StorageError(f"{path}: {error}", hint="check free space, permissions and the disk itself")
    if name in _REFERENCE:
        if statement.lstrip().upper().startswith("DELETE"):
            return InUseError(f"{path}: something else needs what was to be removed ({error})")
        return ConflictError(f"{path}: what this refers to was removed in the meantime ({error})")
    if name.startswith("SQLITE_CONSTRAINT"):
        return ConflictError(f"{path}: {error}")
    if name.startswith(_DAMAGED) or "decode to UTF-8" in str(error):
        return IntegrityError(f"{path} is damaged: {error}", hint=_VERIFY)
    return StorageError(f"{path}: {error}", hint=_VERIFY)
