"""Everything a bank holds, as a value: what must not change is compared before and after."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def state(place: Path) -> dict[str, Any]:
    """Every row of every table, and every file with its bytes; SQLite's own file is known by its rows."""
    return {"rows": rows(place), "files": files(place)}


def rows(place: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(f"file:{place}/catalog.db?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(db.execute(f'SELECT * FROM "{table}"'), key=repr) for table in tables}


def files(place: Path) -> dict[str, bytes]:
    """Bytes by path, of objects and litter: of everything but the database and the lock files."""
    found = (path for path in sorted(place.rglob("*")) if path.is_file())
    kept = (path for path in found if path.parent.name != "locks" and not path.name.startswith("catalog."))
    return {str(path.relative_to(place)): path.read_bytes() for path in kept}


def objects(place: Path) -> set[str]:
    """Digests of the objects that are there."""
    return {path.parent.name + path.name.removesuffix(".z1") for path in (place / "objects").glob("??/*")}
