"""verify: every object against its digest, every row that matters against its own, every coded file by decoding it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Set

from sqlalchemy import Connection

from adapterbank.catalog import artefacts, bases, digests, levels, members, objects, search
from adapterbank.catalog import versions as rows_of
from adapterbank.catalog.rows import StoredObject, Version
from adapterbank.errors import IntegrityError, NotFoundError, Problem, UsageError
from adapterbank.ways.results import Progress, Verification
from adapterbank.ways.rooms import Rooms, rebuilt


def verify(
    rooms: Rooms,
    versions: Sequence[Version] | None,
    *,
    sample: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Check all rows and all objects, a random ``sample`` (fraction) of them, or only what ``versions`` need.

    What is losslessly coded is also decoded, and the registered SHA-256 must come out.
    """
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
    sound: set[str] = set()
    for item in stored:
        problem = rooms.vault.check(item.digest)
        if problem is not None:
            problem = _still_wrong(rooms, item)
            found += [] if problem is None else [problem]
        else:
            sound.add(item.digest)
        done += item.bytes
        if progress is not None:
            progress(done, total)
    damaged = {item.digest for item in stored} - sound
    found += _misread(rooms, versions, sound, damaged)
    return Verification(len(stored), rows, total, tuple(found))


def _still_wrong(rooms: Rooms, item: StoredObject) -> Problem | None:
    """What is wrong with an object that is needed: nothing is deleted meanwhile, and nothing is wrong with what was before."""
    with rooms.vault.holding():
        return rooms.vault.check(item.digest) if item in _all(rooms) else None


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
            wanted |= {digest for form in forms for digest in form.reference_objects}
            shared = [bases.get(tx, form.basis).object for form in forms if form.basis is not None]
            wanted |= {digest for digest in shared if digest is not None}
            wanted |= set() if member is not None else _exact_bytes(tx, version)
            made = [*artefacts.listing(tx, version=version), *artefacts.used_by(tx, version)]
            wanted |= {artefact.object for artefact in made}
        return [sizes[digest] for digest in sorted(wanted)]


def _exact_bytes(tx: Connection, version: Version) -> set[str]:
    """The objects that hold the weights of a version: as they came, or coded, then with those of its reference."""
    form = levels.exact_form(tx, version)
    if form is None:
        return {version.weights}
    return {form.object} | (set() if form.reference is None else _exact_bytes(tx, rows_of.get(tx, form.reference)))


def _misread(rooms: Rooms, versions: Sequence[Version] | None, sound: Set[str], damaged: Set[str]) -> Iterator[Problem]:
    """Coded objects that are as they were stored and do not decode to what was registered."""
    with rooms.catalog.reading() as tx:
        chosen = search.versions(tx, where="level=exact") if versions is None else versions
        held = [(version, levels.exact_form(tx, version)) for version in chosen]
        exact = [(version, form, _exact_bytes(tx, version)) for version, form in held if form is not None]
    for version, form, needed in exact:
        if form.object not in sound or needed & damaged:
            continue  # not in the sample, or told already
        try:
            for _ in rebuilt(rooms, version, form):
                pass
        except IntegrityError as error:
            if _stands(rooms, version, form):
                yield Problem("exact_form", f"its coded weights are not what was registered: {error.message}", version.ref)
        except NotFoundError:
            continue  # removed or changed meanwhile


def _stands(rooms: Rooms, version: Version, form: levels.ExactForm) -> bool:
    """Whether ``form`` stands for ``version`` still."""
    with rooms.catalog.reading() as tx:
        return levels.exact_form(tx, version) == form
