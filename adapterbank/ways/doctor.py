"""doctor: is this a good place for a bank, and is the bank well? Each finding with the next command."""

from __future__ import annotations

import os
import shutil
from typing import Any

from adapterbank.catalog import artefacts, edges, objects
from adapterbank.ways.results import Check
from adapterbank.ways.rooms import Rooms

_LOW_SPACE = 1 << 30


def doctor(rooms: Rooms) -> list[Check]:
    """Checks of the database engine, the disk, locks, litter and garbage; reads only."""
    settings = rooms.catalog.settings()
    return [*_database(settings), _file_system(settings), _space(rooms), _litter(rooms), _garbage(rooms), _artefacts(rooms)]


def _database(settings: dict[str, Any]) -> list[Check]:
    version, mode = settings["sqlite_version"], settings["journal_mode"]
    safe = settings["synchronous"] == 2 and settings["foreign_keys"] == 1
    return [
        Check("schema", "ok", f"revision {settings['schema_revision']}"),
        Check("journal", "ok", f"SQLite {version}, journal mode {mode}: {settings['journal_why']}"),
        Check("durability", "ok" if safe else "error", f"synchronous {settings['synchronous']} (2 is FULL), foreign keys on"),
    ]


def _file_system(settings: dict[str, Any]) -> Check:
    return Check("file system", "ok", f"{settings['file_system']} at {settings['mount_point']}, local")


def _space(rooms: Rooms) -> Check:
    free = shutil.disk_usage(rooms.root).free
    message = f"{free / 2**30:.1f} GiB free"
    if free < _LOW_SPACE:
        return Check("space", "warning", message, "adapterbank gc --dry-run shows what could go")
    return Check("space", "ok", message)


def _litter(rooms: Rooms) -> Check:
    litter = rooms.vault.sweep_staging(60.0, dry_run=True)
    if litter:
        size = sum(item.size for item in litter)
        return Check("staging", "warning", f"{len(litter)} files ({size} bytes) left by killed processes", "adapterbank gc")
    return Check("staging", "ok", "no files left by killed processes")


def _garbage(rooms: Rooms) -> Check:
    with rooms.catalog.reading() as tx:
        waiting = objects.released(tx)
    writable = os.access(rooms.root, os.W_OK)
    if waiting:
        return Check("garbage", "warning", f"{len(waiting)} released objects still on disk", "adapterbank gc")
    return Check("garbage", "ok", "no released objects on disk" + ("" if writable else "; the bank is not writable here"))


def _artefacts(rooms: Rooms) -> Check:
    """What calibration left: it is as large as it was told to be, and nothing but merges needs it."""
    with rooms.catalog.reading() as tx:
        made = artefacts.listing(tx)
        spare = [artefact for artefact in made if not edges.dependents(tx, artefact.id)]
    size = sum(artefact.bytes for artefact in made)
    message = f"{len(made)} ({size} bytes), {len(spare)} that no merge used ({sum(each.bytes for each in spare)} bytes)"
    return Check("artefacts", "ok", message, "adapterbank artefacts list" if spare else None)
