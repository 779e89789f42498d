"""verify: every object against its digest, every row that matters against its own."""

from __future__ import annotations

import random
from collections.abc import Sequence

from adapterbank.catalog import bases, digests, levels, members, objects
from adapterbank.catalog.rows import StoredObject, Version
from adapterbank.errors import UsageError
from adapterbank.ways.results import Progress, Verification
from adapterbank.ways.rooms import Rooms


def verify(
    rooms: Rooms,
    versions: Sequence[Version] | None,
    *,
    sample: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Check all rows and all objects, a random ``sample`` (fraction) of them, or only what ``versions`` need."""
    if sample is not None and not 0.0 < sample <= 1.0:
        raise UsageError(f"sample: got {sample:g}, expected a fraction above 0 and at most 1")
    with rooms.catalog.reading() as tx:
        found = list(digests.verify_rows(tx))
        rows = digests.count_rows(tx)
    stored = _all(rooms) if versions is None else _needed(rooms, versions)
    if sample is not None and stored:
        count = max(1, round(sample * len(stored)))
        stored = random.Random(seed).sample(stored, count)
    total, done = sum(item.bytes for item in stored), 0
    for item in stored:
        problem = rooms.vault.check(item.digest)
        if problem is not None and item in _all(rooms):  # nothing is wrong with what was removed meanwhile
            found.append(problem)
        done += item.bytes
        if progress is not None:
            progress(done, total)
    return Verification(len(stored), rows, total, tuple(found))


def _all(rooms: Rooms) -> list[StoredObject]:
    """Every object that something refers to; garbage may be missing or rotten without harm."""
    with rooms.catalog.reading() as tx:
        garbage = {stored.digest for stored in objects.unreferenced(tx)}
        return [stored for stored in objects.listing(tx) if stored.digest not in garbage]


def _needed(rooms: Rooms, versions: Sequence[Version]) -> list[StoredObject]:
    with rooms.catalog.reading() as tx:
        sizes = {stored.digest: stored for stored in objects.listing(tx)}
        wanted = set()
        for version in versions:
            member = levels.bounded_member(tx, version)
            forms = [member] if member is not None else members.of_version(tx, version)
            wanted |= {version.config} | {form.object for form in forms}
            wanted |= {bases.get(tx, form.basis).object for form in forms}
            wanted |= set() if member is not None else {version.weights}
        return [sizes[digest] for digest in sorted(wanted)]
