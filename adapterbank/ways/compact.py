"""compact: the same bytes losslessly coded, or a form with a stated error in their place; decoded and checked before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterbank.catalog import levels, versions
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import IntegrityError, UsageError
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format.reader import read
from adapterbank.ways.form import form_of
from adapterbank.ways.recode import to_exact, to_original
from adapterbank.ways.reconstruct import reconstruct_member
from adapterbank.ways.results import Compaction, Progress
from adapterbank.ways.rooms import Rooms, delete_released, weights_of

LEVELS = ("original", "exact", "bounded")
TOLERANCE = 1e-6  # between the stored error and the one measured again, relative to ΔW


def compact(
    rooms: Rooms,
    chosen: Sequence[Version],
    *,
    level: str = "bounded",
    basis: str | None = None,
    drop_exact: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Compaction:
    """Keep ``chosen`` at another level: ``exact`` and ``original`` give the same bytes, ``bounded`` drops them for good.

    Raises UsageError (also without ``drop_exact`` for ``bounded``), and what ``to_exact``, ``to_original`` and ``to_bounded``
    raise.
    """
    if level not in LEVELS:
        raise UsageError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
    if level == "bounded":
        if not drop_exact and not dry_run:
            raise UsageError("compact drops exact bytes for good: say so with --drop-exact (drop_exact=True), or try --dry-run")
        return to_bounded(rooms, chosen, basis=basis, dry_run=dry_run)
    if basis is not None or drop_exact:
        raise UsageError(f"level {level} keeps the exact bytes: a basis and --drop-exact belong to --level bounded")
    recode = to_exact if level == "exact" else to_original
    return recode(rooms, chosen, dry_run=dry_run, progress=progress)


def to_bounded(rooms: Rooms, chosen: Sequence[Version], *, basis: str | None, dry_run: bool) -> Compaction:
    """Drop the exact bytes of ``chosen`` in one transaction; what stays is the best form, or that in ``basis``.

    Inside the transaction every form is decoded from its stored objects and its error measured against the original bytes.
    Raises NotFoundError (no form to stand for a version), IntegrityError (a form is not what its row says), InUseError (others
    are coded as differences to these bytes).
    """
    refs = dict.fromkeys(each.ref for each in chosen)
    forms: dict[str, Member] = {}
    merges: set[str] = set()
    freed = 0
    with rooms.vault.holding(), rooms.catalog.writing(dry_run=dry_run) as tx:
        found = [versions.get(tx, ref) for ref in refs]  # another process may have been faster
        # What is coded as differences to another version is younger, so it has the larger id and goes first.
        for version in sorted(found, key=lambda version: -version.id):
            if version.level == "bounded":
                continue
            member = form_of(tx, version, basis)
            _check(rooms, version, member)
            coded = levels.exact_form(tx, version)
            freed += rooms.vault.size(version.weights) if coded is None else coded.bytes
            merges |= set(levels.merges_needing(tx, version))
            levels.set_level(tx, version, "bounded", member)
            forms[version.ref] = member
    if not dry_run:
        delete_released(rooms)
    forms = {ref: forms[ref] for ref in refs if ref in forms}
    return Compaction(tuple(forms), freed, forms, tuple(sorted(merges)), dry_run)


def same_bits(first: Tensor, second: Tensor | None) -> bool:
    """Whether two tensors have the same dtype, shape and bytes."""
    if second is None or first.dtype != second.dtype or first.shape != second.shape:
        return False
    left, right = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(left, right)


def _check(rooms: Rooms, version: Version, member: Member) -> None:
    """Decode the form from its stored bytes and measure its error against the original once more."""
    approximation = reconstruct_member(rooms, member)
    with weights_of(rooms, version) as (config, mapped):
        original = read(config, mapped.buffer)
        error = delta_error(original, approximation).total
        lost = sorted(key for key, tensor in original.extras.items() if not same_bits(tensor, approximation.extras.get(key)))
    if lost:
        raise IntegrityError(
            f"the form of {version.ref} in {member.basis} does not have {', '.join(lost)} as registered; nothing was dropped"
        )
    if error > member.error + TOLERANCE:
        raise IntegrityError(
            f"the form of {version.ref} in {member.basis} decodes to error {error:.6g}, its row says {member.error:.6g}; "
            "nothing was dropped",
            hint=f"adapterbank verify {version.ref}",
        )
