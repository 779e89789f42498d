"""Upkeep: what may go, and whether all is well."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.bank.opened import Opened
from adapterbank.ways import doctor, remove, results, verify


class Upkeep(Opened):
    """Removal, compaction, garbage, verification, diagnosis."""

    def remove(self, refs: Sequence[str], *, dry_run: bool = False) -> results.Removal:
        """Remove versions; InUseError lists what needs one of them, and then none is removed."""
        return remove.remove(self.rooms, self._found(refs), dry_run=dry_run)

    def compact(
        self,
        refs: Sequence[str],
        *,
        level: str = "bounded",
        basis: str | None = None,
        drop_exact: bool = False,
        dry_run: bool = False,
        progress: results.Progress | None = None,
    ) -> results.Compaction:
        """Keep versions at another level: ``exact`` is losslessly coded, ``original`` as registered; both give the same bytes.

        ``bounded`` drops the exact bytes of versions whose stored form decodes within its stated error: the form with the
        smallest error, or that of ``basis``. It raises UsageError without ``drop_exact``.
        """
        from adapterbank.ways import compact as ways

        return ways.compact(
            self.rooms,
            self._found(refs),
            level=level,
            basis=basis,
            drop_exact=drop_exact,
            dry_run=dry_run,
            progress=progress,
        )

    def gc(self, *, dry_run: bool = False, grace: float = 3600.0) -> results.Garbage:
        """Delete objects that nothing refers to and files that killed processes left."""
        return remove.gc(self.rooms, dry_run=dry_run, grace=grace)

    def verify(
        self, refs: Sequence[str] | None = None, *, sample: float | None = None, progress: results.Progress | None = None
    ) -> results.Verification:
        """Check rows and objects against their digests: all, a sample, or what ``refs`` need."""
        chosen = None if refs is None else self._found(refs)
        return verify.verify(self.rooms, chosen, sample=sample, progress=progress)

    def doctor(self) -> list[results.Check]:
        """Checks of the place, the database and the bank's health."""
        return doctor.doctor(self.rooms)
