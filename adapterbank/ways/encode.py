"""encode: a version coded on its own, of a size or an error that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from sqlalchemy import Connection

from adapterbank.catalog import members, removal, versions
from adapterbank.catalog.rows import Member, NewMember, StoredObject, Version
from adapterbank.codecs.target import Target
from adapterbank.errors import NotFoundError, UsageError
from adapterbank.ways import coding
from adapterbank.ways.joinable import not_bounded, plain_lora
from adapterbank.ways.load import load
from adapterbank.ways.results import Encoded, Progress, Removal
from adapterbank.ways.rooms import Rooms, delete_released

QUALITIES = {"high": 0.1, "balanced": 0.35, "small": 0.6}  # the largest relative ΔW error


def target_of(bits: float | None, max_error: float | None, quality: str | None) -> Target:
    """What to reach: bits per parameter, a largest error, or a quality; ``balanced`` if nothing is said. Raises UsageError."""
    given = [name for name, value in (("bits", bits), ("max_error", max_error), ("quality", quality)) if value is not None]
    if len(given) > 1:
        raise UsageError(f"give one of bits, max_error and quality; got {', '.join(given)}")
    if given and quality is None:
        return Target(bits=bits, max_error=max_error)
    quality = quality or "balanced"
    if quality not in QUALITIES:
        raise UsageError(f"quality {quality!r}: expected one of {', '.join(QUALITIES)}")
    return Target(max_error=QUALITIES[quality])


def encode(
    rooms: Rooms,
    version: Version,
    target: Target,
    *,
    codec: str = coding.RD,
    effort: int = coding.DEFAULT_EFFORT,
    progress: Progress | None = None,
) -> Encoded:
    """Code ``version`` on its own and store that form; the one that ``codec`` made before goes in the same transaction.

    Raises IncompatibleError for what is no plain LoRA, ConflictError without exact bytes, InUseError if something needs the
    form that was there, UsageError or ErrorBoundError for a target that cannot be reached.
    """
    plain_lora([version])
    not_bounded([version])
    start = monotonic()
    with rooms.vault.stage() as staged:
        with load(rooms, version) as loaded:
            coded = coding.encode(loaded.adapter, target, codec=codec, effort=effort, progress=progress)
        staged.write(coded.data)
        with rooms.vault.holding():
            stored = rooms.vault.keep(staged)
            with rooms.catalog.writing() as tx:
                form, status = _put(tx, versions.get(tx, version.ref), coded.row(codec, stored.digest))
    if status == "replaced":
        delete_released(rooms)
    return Encoded(form, status, form.bits, form.bytes / version.bytes, round(monotonic() - start, 3))


def drop_forms(rooms: Rooms, chosen: Sequence[Version], *, codec: str | None = None, dry_run: bool = False) -> Removal:
    """Remove the forms of ``chosen`` that stand alone, those of ``codec`` or all, in one transaction.

    Raises NotFoundError for a version that has none, InUseError if one is all that is left of a version.
    """
    codecs = coding.CODECS if codec is None else (coding.check_codec(codec),)
    released: list[StoredObject] = []
    with rooms.catalog.writing(dry_run=dry_run) as tx:
        for ref in dict.fromkeys(version.ref for version in chosen):
            found = [members.alone(tx, versions.get(tx, ref), each) for each in codecs]
            forms = [form for form in found if form is not None]
            if not forms:
                by = "" if codec is None else f" by the codec {codec}"
                raise NotFoundError(f"{ref} has no form{by} that stands alone", hint=f"adapterbank show {ref}")
            for form in forms:
                released += removal.remove_member(tx, form)
    if not dry_run:
        delete_released(rooms)
    refs = tuple(dict.fromkeys(version.ref for version in chosen))
    return Removal(refs, len(released), sum(stored.bytes for stored in released), dry_run)


def _put(tx: Connection, version: Version, row: NewMember) -> tuple[Member, str]:
    """Record the form in the place of the one that was there, and say what became of that."""
    old = members.alone(tx, version, row.codec)
    if old is not None and old.object == row.object:
        return old, "unchanged"
    if old is not None:
        removal.remove_member(tx, old)
    return members.add(tx, None, version, row), "new" if old is None else "replaced"
