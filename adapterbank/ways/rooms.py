"""The rooms a way walks through, and the bytes of a version as a mapping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

from adapterbank.catalog import levels, objects, versions
from adapterbank.catalog.levels import ExactForm
from adapterbank.catalog.rows import Version
from adapterbank.catalog.session import Catalog
from adapterbank.disk_errors import storage_errors
from adapterbank.errors import BoundedOnlyError, BusyError, IntegrityError, NotFoundError
from adapterbank.vault.mapped import Mapped
from adapterbank.vault.objects import Vault

_VERIFY = "adapterbank verify"


@dataclass(frozen=True, slots=True)
class Rooms:
    """An open bank: its directory, its objects and its rows."""

    root: Path
    vault: Vault
    catalog: Catalog


@contextmanager
def weights_of(rooms: Rooms, version: Version) -> Iterator[tuple[bytes, Mapped]]:
    """The registered bytes of a version: its configuration, and its weights mapped after their digest was checked.

    At level exact they are decoded into an unnamed temporary file. Raises BoundedOnlyError if ``compact`` dropped them,
    IntegrityError if they are not what was registered.
    """
    with _weights(rooms, version) as mapped:
        yield rooms.vault.read(version.config), mapped


def _weights(rooms: Rooms, version: Version) -> Mapped:
    """The weights as a mapping, at whatever level they are by now: ``version`` may be older than the last ``compact``."""
    try:
        return _at_its_level(rooms, version)
    except NotFoundError:  # changed between reading its row and opening its object; with deletion kept away it cannot be
        with rooms.vault.holding():
            return _at_its_level(rooms, version)


def _at_its_level(rooms: Rooms, version: Version) -> Mapped:
    with rooms.catalog.reading() as tx:
        now = versions.get(tx, version.ref)
        form = levels.exact_form(tx, now)
    if now.level == "bounded":
        raise BoundedOnlyError(
            f"{now.ref} is kept only in a bounded form: its exact bytes were dropped by compact",
            hint=f"adapterbank reconstruct {now.ref} DIR, or adapterbank export --bounded {now.ref} DIR",
        )
    if form is None:
        return rooms.vault.open(now.weights)
    with storage_errors("decode a version in", Path(gettempdir())), TemporaryFile() as file:
        for part in rebuilt(rooms, now, form):
            file.write(part)
        file.flush()
        return Mapped(file.fileno())


def rebuilt(rooms: Rooms, version: Version, form: ExactForm) -> Iterator[bytes]:
    """The weights of an exact version in parts; right only once the last one came without an error.

    Raises IntegrityError if the coded object, or the bytes it refers to, are damaged or another file's.
    """
    with rooms.vault.open(form.object) as coded:
        yield from decoded(rooms, version, form, coded)


def decoded(rooms: Rooms, version: Version, form: ExactForm, coded: Mapped) -> Iterator[bytes]:
    """The same from the bytes of a coded object that are at hand."""
    from adapterbank.codecs import exact

    if form.reference is None:
        yield from exact.rebuilt(coded.buffer, expected=version.weights)
        return
    with rooms.catalog.reading() as tx:
        reference = versions.get(tx, form.reference)
        if not levels.is_self_contained(tx, reference):
            raise IntegrityError(f"{version.ref} refers to {reference.ref}, which has no bytes of its own", hint=_VERIFY)
    with _weights(rooms, reference) as other:
        yield from exact.rebuilt(coded.buffer, {reference.weights: other.buffer}, expected=version.weights)


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
