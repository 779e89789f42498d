"""Calibrations: what merges learn from data, made once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapterbank.bank.merges import Merges, Rank
from adapterbank.catalog import artefacts, versions
from adapterbank.catalog.rows import Artefact
from adapterbank.errors import UsageError
from adapterbank.ways import merge_results, results

if TYPE_CHECKING:
    from adapterbank.calibration.tasks import Setting
    from adapterbank.merge.artefacts import Coefficients


class Calibrations(Merges):
    """Statistics of versions and coefficients over several, as artefacts."""

    def calibrate(
        self,
        procedure: str,
        refs: Sequence[str],
        setting: Setting,
        *,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        held_out: int = results.HELD_OUT,
        progress: results.Progress | None = None,
    ) -> results.Calibrated:
        """Run a procedure of ``adapterbank calibrate --list`` on versions and store what it makes.

        ``setting`` has the base model and a task for each version, by its reference ``NAME@N``; at most ``held_out`` batches of
        each task that it holds out judge what was learned. Raises UsageError, IncompatibleError.
        """
        from adapterbank.ways import calibrate as ways

        chosen = self._found(refs)
        own: dict[str, Any] = {"options": options, "seed": seed, "batches": held_out, "progress": progress}
        return ways.calibrate(self.rooms, procedure, chosen, setting, **own)

    def artefacts(self, *, family: str | None = None, kind: str | None = None, ref: str | None = None) -> list[Artefact]:
        """All artefacts, or those of a family (``statistics``, ``coefficients``), a kind, a version; oldest first."""
        with self.rooms.catalog.reading() as tx:
            version = None if ref is None else versions.get(tx, ref)
            return artefacts.listing(tx, family=family, kind=kind, version=version)

    def artefact(self, ref: str) -> Artefact:
        """The artefact of ``sha256:PREFIX``. Raises NotFoundError, ConflictError."""
        with self.rooms.catalog.reading() as tx:
            return artefacts.get(tx, ref)

    def about_artefact(self, ref: str) -> dict[str, Any]:
        """How it was made: procedure, options, seed, and how the objective went."""
        from adapterbank.ways import artefacts as ways

        return ways.about(self.rooms, self.artefact(ref))

    def coefficients(self, ref: str) -> Coefficients:
        """The values of an artefact. Raises UsageError for statistics."""
        from adapterbank.ways import artefacts as ways

        return ways.coefficients_of(self.rooms, self.artefact(ref))

    def compare_coefficients(self, refs: Sequence[str]) -> merge_results.CoefficientsCompared:
        """Sets of coefficients over the same adapters beside each other. Raises UsageError for others."""
        from adapterbank.ways import coefficients as ways

        return ways.compare(self.rooms, [self.artefact(ref) for ref in refs])

    def merge_coefficients(
        self, ref: str, *, name: str, rank: Rank = None, progress: results.Progress | None = None
    ) -> results.MergedVersion:
        """The LoRA that a set of coefficients makes of its adapters, as a version with a recipe. Raises UsageError for
        statistics."""
        found = self.artefact(ref)
        if found.family != "coefficients":
            raise UsageError(f"{found.ref} is {found.label}: statistics, not coefficients")
        weights = dict.fromkeys(found.versions, 1.0)
        return self.merge(found.kind, weights, name=name, rank=rank, using=[found.ref], progress=progress)

    def remove_artefacts(self, refs: Sequence[str], *, dry_run: bool = False) -> results.Removal:
        """Remove artefacts. Raises InUseError listing the merges that used one."""
        from adapterbank.ways import artefacts as ways

        return ways.remove(self.rooms, [self.artefact(ref) for ref in refs], dry_run=dry_run)
