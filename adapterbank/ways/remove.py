"""remove and gc: what nothing needs may go, and only that. The table of edges decides."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.catalog import bases, objects, removal, versions
from adapterbank.catalog.rows import Basis, StoredObject, Version
from adapterbank.errors import NotFoundError
from adapterbank.vault.objects import Vault
from adapterbank.ways.results import Garbage, Removal
from adapterbank.ways.rooms import Rooms, delete_released


def remove(rooms: Rooms, chosen: Sequence[Version], *, dry_run: bool = False) -> Removal:
    """Remove versions, their members and what only they kept. Raises InUseError with the dependents, and then removes none."""
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        # Found again: another process may have been faster.
        released = removal.remove_versions(tx, [versions.get(tx, version.ref) for version in chosen])
    return _finish(rooms, tuple(dict.fromkeys(version.ref for version in chosen)), released, dry_run)


def remove_basis(rooms: Rooms, basis: Basis, *, dry_run: bool = False) -> Removal:
    """Remove a basis with its members. Raises InUseError listing the versions that have no other form."""
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        released = removal.remove_basis(tx, bases.get(tx, basis.ref))
    return _finish(rooms, (basis.ref,), released, dry_run)


def gc(rooms: Rooms, *, dry_run: bool = False, grace: float = 3600.0) -> Garbage:
    """Delete objects that nothing refers to (age over ``grace`` seconds unless a command released them) and litter.

    It runs under the exclusive lock, so an object between its put and its row cannot be taken away; a dry run only reads.
    """
    with rooms.vault.holding() if dry_run else rooms.vault.deleting():
        with rooms.catalog.reading() as tx:
            known = {stored.digest for stored in objects.listing(tx)}
            free = {stored.digest for stored in objects.unreferenced(tx)}
            released = {stored.digest for stored in objects.released(tx)}
        garbage = []
        for digest in rooms.vault.digests():
            unowned = digest in released or digest in free or digest not in known
            if unowned and (digest in released or rooms.vault.age(digest) > grace):
                garbage.append((digest, rooms.vault.size(digest)))
        if not dry_run:
            for digest, _ in garbage:
                rooms.vault.delete(digest)
            with rooms.catalog.writing() as tx:
                objects.forget_released(tx, sorted(released | {digest for digest, _ in garbage}))
        litter = rooms.vault.sweep_staging(grace, dry_run=dry_run)
    freed = sum(size for _, size in garbage) + sum(item.size for item in litter)
    return Garbage(tuple(sorted(garbage)), len(litter), freed, dry_run)


def _finish(rooms: Rooms, refs: tuple[str, ...], released: Sequence[StoredObject], dry_run: bool) -> Removal:
    freed = sum(_on_disk(rooms.vault, stored.digest) for stored in released)
    if not dry_run:
        delete_released(rooms)
    return Removal(refs, len(released), freed, dry_run)


def _on_disk(vault: Vault, digest: str) -> int:
    """Bytes that the object takes now: fewer than its row says where it is kept compressed, 0 if it is gone."""
    try:
        return vault.size(digest)
    except NotFoundError:
        return 0
