"""The rooms a way walks through, and the bytes of a version as a mapping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapterbank.catalog import objects
from adapterbank.catalog.rows import Version
from adapterbank.catalog.session import Catalog
from adapterbank.errors import BoundedOnlyError, BusyError
from adapterbank.vault.mapped import Mapped
from adapterbank.vault.objects import Vault


@dataclass(frozen=True, slots=True)
class Rooms:
    """An open bank: its directory, its objects and its rows."""

    root: Path
    vault: Vault
    catalog: Catalog


@contextmanager
def weights_of(rooms: Rooms, version: Version) -> Iterator[tuple[bytes, Mapped]]:
    """The registered bytes of a version: its configuration, and its weights mapped after their digest was checked.

    Raises BoundedOnlyError if ``compact`` dropped them, IntegrityError if they are not what was registered.
    """
    if version.level == "bounded":
        raise BoundedOnlyError(
            f"{version.ref} is kept only in a bounded form: its exact bytes were dropped by compact",
            hint=f"adapterbank reconstruct {version.ref} DIR, or adapterbank export --bounded {version.ref} DIR",
        )
    with rooms.vault.open(version.weights) as mapped:
        yield rooms.vault.read(version.config), mapped


def delete_released(rooms: Rooms) -> tuple[int, int]:
    """Delete what committed commands released and nothing refers to again; returns (objects, bytes).

    Runs after the commit, under the exclusive lock: nobody is between putting an object and committing its row. What a
    kill leaves undone here is done by the next command that deletes, and so is what has to wait too long for writers.
    """
    try:
        return _delete_released(rooms)
    except BusyError:
        return 0, 0


def _delete_released(rooms: Rooms) -> tuple[int, int]:
    with rooms.catalog.reading() as tx:
        if not objects.released(tx):
            return 0, 0
    with rooms.vault.deleting():
        with rooms.catalog.reading() as tx:
            released = objects.released(tx)
        freed = sum(rooms.vault.delete(stored.digest) for stored in released if rooms.vault.exists(stored.digest))
        with rooms.catalog.writing() as tx:
            objects.forget_released(tx, [stored.digest for stored in released])
    return len(released), freed
