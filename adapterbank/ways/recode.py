"""compact to ``exact`` and back to ``original``: the same bytes in another form, each version in a transaction of its own.

The new form is made and synced before, and inside the transaction decoded and compared with the registered SHA-256 before it
takes the place of the old one: a kill at any moment leaves one of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from adapterbank.catalog import levels, versions
from adapterbank.catalog.levels import ExactForm
from adapterbank.catalog.rows import Version
from adapterbank.codecs import exact
from adapterbank.errors import BoundedOnlyError, IntegrityError, NotFoundError
from adapterbank.vault.staging import Staged
from adapterbank.ways.results import Compaction, Progress
from adapterbank.ways.rooms import Rooms, decoded, delete_released, rebuilt, weights_of

_ANCESTORS = 8  # how far back a reference is looked for


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A coded object on its way into the vault."""

    staged: Staged
    form: ExactForm


def to_exact(rooms: Rooms, chosen: Sequence[Version], *, dry_run: bool, progress: Progress | None) -> Compaction:
    """Code the weights of ``chosen`` losslessly; a version whose object would not be smaller stays ``original``.

    Raises BoundedOnlyError before anything is done if exact bytes are gone already, IntegrityError if something stored is
    damaged; what was done before that stays done.
    """
    coded: dict[str, ExactForm] = {}
    kept: list[str] = []
    freed = 0
    for version in _each(rooms, chosen, "original", progress):
        with rooms.vault.holding(), _candidates(rooms, version) as (candidates, size):
            form = _adopt(rooms, version, candidates, dry_run)
        if form is None:
            kept.append(version.ref)
            continue
        coded[version.ref] = form
        freed += size - form.bytes
        if not dry_run:
            delete_released(rooms)
    return Compaction(tuple(coded), freed, {}, (), dry_run, "exact", coded, tuple(kept))


def to_original(rooms: Rooms, chosen: Sequence[Version], *, dry_run: bool, progress: Progress | None) -> Compaction:
    """Put the registered bytes of exact versions back as they came; ``bytes_freed`` is negative. Raises as ``to_exact``."""
    done: list[str] = []
    freed = 0
    for version in _each(rooms, chosen, "exact", progress):
        with rooms.vault.holding(), rooms.vault.stage() as staged:
            with rooms.catalog.reading() as tx:
                form = levels.exact_form(tx, version)
            if form is None:
                continue  # another process was faster
            for part in rebuilt(rooms, version, form):
                staged.write(part)
            if staged.digest() != version.weights:
                raise IntegrityError(f"the disk does not keep the bytes of {version.ref} as they were written")
            freed += form.bytes - staged.size
            _restore(rooms, version, staged, dry_run)
        done.append(version.ref)
        if not dry_run:
            delete_released(rooms)
    return Compaction(tuple(done), freed, {}, (), dry_run, "original")


def _each(rooms: Rooms, chosen: Sequence[Version], level: str, progress: Progress | None) -> Iterator[Version]:
    """Those of ``chosen`` that are at ``level``, each once. Raises BoundedOnlyError if one has no exact bytes any more."""
    with rooms.catalog.reading() as tx:
        found = [versions.get(tx, ref) for ref in dict.fromkeys(version.ref for version in chosen)]
    lost = [version.ref for version in found if version.level == "bounded"]
    if lost:
        raise BoundedOnlyError(
            f"kept only in a bounded form: {', '.join(lost)}; the exact bytes were dropped by compact",
            hint="register the original files again: that brings them back",
        )
    wanted = [version for version in found if version.level == level]
    done, total = 0, sum(version.bytes for version in wanted)
    for version in wanted:
        yield version
        done += version.bytes
        if progress is not None:
            progress(done, total)


@contextmanager
def _candidates(rooms: Rooms, version: Version) -> Iterator[tuple[list[_Candidate], int]]:
    """Coded objects that are smaller than the weights, the best first (with a reference where that is worth it), and the
    size of the weights."""
    with rooms.catalog.reading() as tx:
        reference = _reference_of(tx, version)
    with ExitStack() as stack:
        file = stack.enter_context(weights_of(rooms, version))[1].buffer
        plain = _staged(rooms, stack, exact.pieces(file), None)
        found = [plain]
        if reference is not None:
            other = stack.enter_context(weights_of(rooms, reference))[1].buffer
            referring = _staged(rooms, stack, exact.pieces(file, other), reference.ref)
            if exact.worth(plain.form.bytes, referring.form.bytes):
                found.insert(0, referring)
        yield [candidate for candidate in found if candidate.form.bytes < len(file)], len(file)


def _staged(rooms: Rooms, stack: ExitStack, pieces: Iterator[Any], reference: str | None) -> _Candidate:
    staged = stack.enter_context(rooms.vault.stage())
    for piece in pieces:
        staged.write(piece)
    return _Candidate(staged, ExactForm(staged.digest(), staged.size, reference))


def _reference_of(tx: Connection, version: Version) -> Version | None:
    """The nearest ancestor that ``version`` may be coded as differences to."""
    parent = version.parent
    for _ in range(_ANCESTORS):
        if parent is None:
            return None
        try:
            ancestor = versions.get(tx, parent)
        except NotFoundError:  # removed since
            return None
        if ancestor.weights != version.weights and levels.may_refer(tx, version, ancestor):
            return ancestor
        parent = ancestor.parent
    return None


def _adopt(rooms: Rooms, version: Version, candidates: Sequence[_Candidate], dry_run: bool) -> ExactForm | None:
    """Let the first candidate whose reference may still be one stand for ``version``, after it was decoded and compared."""
    for candidate in candidates if not dry_run else ():
        candidate.staged.seal()  # the slow part, outside the transaction
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        now = versions.get(tx, version.ref)
        if now.level != "original":  # another process was faster
            return levels.exact_form(tx, now)
        for candidate in candidates:
            form = candidate.form
            if form.reference is not None and not levels.may_refer(tx, now, versions.get(tx, form.reference)):
                continue
            with candidate.staged.view() as coded:
                for _ in decoded(rooms, now, form, coded):  # ends only if the last byte is as registered
                    pass
            if not dry_run:
                rooms.vault.keep(candidate.staged, form.object)
            levels.set_level(tx, now, "exact", form)
            return form
    return None


def _restore(rooms: Rooms, version: Version, staged: Staged, dry_run: bool) -> None:
    if not dry_run:
        staged.seal()
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        now = versions.get(tx, version.ref)
        if now.level != "exact":  # another process was faster
            return
        if not dry_run:
            rooms.vault.keep(staged, version.weights)
        levels.set_level(tx, now, "original")
