"""Where the catalog's files are in a bank."""

from __future__ import annotations

from pathlib import Path

from adapterbank.errors import PlatformError, UsageError

_NAME = "catalog.db"


def bank_path(place: Path | str) -> Path:
    """The folder of a bank from a path or a URL ``sqlite:///PATH``; PlatformError for any other database."""
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return Path(place).expanduser()
    scheme, _, rest = text.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        raise PlatformError(
            f"a bank on {scheme.partition('+')[0]!r} is not supported: this release keeps its catalog in SQLite only",
            hint="give a folder: --bank PATH, or sqlite:///PATH",
        )
    if not rest.startswith("/") or rest == "/":
        raise UsageError(f"{text!r}: expected sqlite:///PATH with the path of the bank's folder")
    path = Path(rest[1:]).expanduser()
    return path.parent if path.name == _NAME else path


def database(root: Path) -> Path:
    """The SQLite file."""
    return root / _NAME


def write_lock(root: Path) -> Path:
    """The lock around every write transaction, and the close and checkpoint after it."""
    return root / "locks" / "catalog.lock"


def backups(root: Path) -> Path:
    """The folder of the backup that an upgrade makes."""
    return root / "backups"


def is_empty(root: Path) -> bool:
    """True if there is no database yet, or only the empty file that a killed first start left."""
    path = database(root)
    return not path.exists() or path.stat().st_size == 0
