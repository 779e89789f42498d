"""artefacts: what calibration made, kept and found again, so that a merge is replayed without data."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank import container
from adapterbank.catalog import artefacts as rows
from adapterbank.catalog import removal
from adapterbank.catalog.rows import Artefact, NewArtefact, Version
from adapterbank.errors import IntegrityError, NotFoundError, UsageError
from adapterbank.merge.artefacts import Artefact as Value
from adapterbank.merge.artefacts import Coefficients, Statistics, from_object
from adapterbank.merge.registry import find
from adapterbank.ways.results import Removal
from adapterbank.ways.rooms import Rooms, delete_released

COEFFICIENTS, METRIC, EVALUATION = "coefficients", "metric", "evaluation"
_PREFIX = "sha256:"


def keep(rooms: Rooms, value: Value, chosen: Sequence[Version], kind: str) -> Artefact:
    """Store statistics of one of ``chosen``, or coefficients over all of them; equal ones are kept once."""
    data = value.to_object()
    if isinstance(value, Statistics):
        family, contents = rows.STATISTICS, [value.adapter]
        chosen = [version for version in chosen if version.content == value.adapter][:1]
    else:
        family, contents = rows.COEFFICIENTS, list(value.names)
    with rooms.vault.holding():
        stored = rooms.vault.put_bytes(data)
        with rooms.catalog.writing() as tx:
            return rows.add(tx, NewArtefact(family, kind, tuple(contents), stored.digest, len(data)), chosen)


def value_of(rooms: Rooms, digest: str, label: str = "") -> Value:
    """The value in an object. Raises NotFoundError or IntegrityError that name it if its bytes are gone or damaged."""
    told = f"the artefact {_PREFIX}{digest[:12]}" + (f" ({label})" if label else "")
    try:
        with rooms.vault.open(digest) as mapped:
            return from_object(bytearray(mapped.buffer))
    except NotFoundError:
        hint = "restore it from a copy of the bank, or calibrate and merge again"
        raise NotFoundError(f"{told} is gone: without it this merge cannot be made again", hint=hint) from None
    except IntegrityError as error:
        raise IntegrityError(f"{told} is damaged: {error.message}", hint="adapterbank verify") from error


def about(rooms: Rooms, artefact: Artefact) -> dict[str, object]:
    """How it was made: procedure, options, seed, trace; read without its tensors."""
    metadata = container.read_metadata(rooms.vault.read(artefact.object))
    return dict(metadata.get("about", {}))


def wanted(rooms: Rooms, method: str, chosen: Sequence[Version], using: Sequence[str]) -> tuple[Artefact, ...]:
    """What ``method`` is given beside ``chosen``: the artefacts named in ``using`` (``sha256:…`` or a kind), else the newest
    ones of the kinds that it needs. Raises NotFoundError naming what is missing, UsageError for what is made for others."""
    with rooms.catalog.reading() as tx:
        named = [rows.get(tx, each) for each in using if each.startswith(_PREFIX)]
    kinds = [each for each in using if not each.startswith(_PREFIX)]
    _made_for(named, chosen)
    needs = [need for need in find(method).needs if need not in (METRIC, EVALUATION)]
    if not using:
        kinds = [need for need in needs if need != COEFFICIENTS]
    found = [*named, *(artefact for kind in kinds for artefact in _newest(rooms, method, kind, chosen))]
    if COEFFICIENTS in needs and not any(artefact.family == rows.COEFFICIENTS for artefact in found):
        found += _newest_coefficients(rooms, method, chosen)
    return tuple(dict.fromkeys(found))


def kept_without(rooms: Rooms, digests: Sequence[str], left: Sequence[Version]) -> tuple[str, ...]:
    """Of a merge's artefacts those that it still has a use for with only these adapters ``left``: their statistics, and
    coefficients over more of them."""
    contents = {version.content for version in left}
    with rooms.catalog.reading() as tx:
        found = rows.of_objects(tx, digests)
    return tuple(each.object for each in found if each.family == rows.COEFFICIENTS or set(each.adapters) <= contents)


def remove(rooms: Rooms, chosen: Sequence[Artefact], *, dry_run: bool = False) -> Removal:
    """Remove artefacts in one transaction. Raises InUseError listing the merges that used one."""
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        released = removal.remove_artefacts(tx, rows.of_objects(tx, [artefact.object for artefact in chosen]))
    if not dry_run:
        delete_released(rooms)
    refs = tuple(dict.fromkeys(artefact.ref for artefact in chosen))
    return Removal(refs, len(released), sum(stored.bytes for stored in released), dry_run)


def _made_for(named: Sequence[Artefact], chosen: Sequence[Version]) -> None:
    contents = {version.content for version in chosen}
    for artefact in named:
        of = set(artefact.adapters)
        if not (of >= contents if artefact.family == rows.COEFFICIENTS else of <= contents):
            raise UsageError(f"{artefact.ref} is {artefact.label}, not of what is merged", hint="adapterbank artefacts list")


def _newest(rooms: Rooms, method: str, kind: str, chosen: Sequence[Version]) -> list[Artefact]:
    """The newest statistics of ``kind`` of each version, or the newest coefficients of that kind over all of them."""
    with rooms.catalog.reading() as tx:
        together = rows.newest(tx, kind, [version.content for version in chosen])
        apart = {version.ref: rows.newest(tx, kind, [version.content]) for version in chosen}
    if together is not None and together.family == rows.COEFFICIENTS:
        return _newest_coefficients(rooms, kind, chosen)
    missing = [ref for ref, artefact in apart.items() if artefact is None]
    if missing:
        raise _missing(f"{method} needs the {kind} of {', '.join(missing)}", kind, chosen)
    return [artefact for artefact in apart.values() if artefact is not None]


def _newest_coefficients(rooms: Rooms, method: str, chosen: Sequence[Version]) -> list[Artefact]:
    contents = sorted(version.content for version in chosen)
    with rooms.catalog.reading() as tx:
        found = [each for each in rows.listing(tx, family=rows.COEFFICIENTS) if sorted(each.adapters) == contents]
    own = [each for each in found if each.kind == method]
    if not found:
        raise _missing(f"{method} needs coefficients over {', '.join(version.ref for version in chosen)}", method, chosen)
    return [_newest_first(rooms, own or found)]


def _newest_first(rooms: Rooms, found: Sequence[Artefact]) -> Artefact:
    """Of the newest calibration its first result: of a front the best mean."""
    return next((each for each in reversed(found) if about(rooms, each).get("number", 1) == 1), found[-1])


def _missing(message: str, kind: str, chosen: Sequence[Version]) -> NotFoundError:
    refs = " ".join(version.ref for version in chosen)
    return NotFoundError(message, hint=f"adapterbank calibrate {kind} {refs} --with FILE.py:FUNCTION")


def values_of(rooms: Rooms, digests: Sequence[str], labels: dict[str, str] | None = None) -> tuple[Value, ...]:
    """The values in these objects, in order; ``labels`` say in words what each was."""
    return tuple(value_of(rooms, digest, (labels or {}).get(digest, "")) for digest in digests)


def coefficients_of(rooms: Rooms, artefact: Artefact) -> Coefficients:
    """The coefficients in it. Raises UsageError for statistics."""
    value = value_of(rooms, artefact.object, artefact.label)
    if not isinstance(value, Coefficients):
        raise UsageError(f"{artefact.ref} is {artefact.label}: statistics, not coefficients")
    return value
