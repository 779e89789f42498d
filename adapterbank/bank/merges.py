"""Merges: from a recipe to a version, again, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterbank.bank.opened import Opened
from adapterbank.catalog import recipes, versions
from adapterbank.catalog.rows import Recipe
from adapterbank.ways import register, results


class Merges(Opened):
    """Merging versions in ΔW space, with lineage."""

    def merge(
        self,
        method: str,
        weights: Mapping[str, float],
        *,
        name: str,
        rank: int | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        dtype: str = "float32",
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        force: bool = False,
        progress: results.Progress | None = None,
    ) -> results.MergedVersion:
        """Merge versions (reference → weight) by a method of ``adapterbank methods`` and register the result.

        ``rank`` is the output's rank (by default each module's largest input rank); the residual of that cut is stored.
        The same recipe again gives the same version. Raises UsageError, IncompatibleError.
        """
        from adapterbank.ways import merge as ways

        with self.rooms.catalog.reading() as tx:
            chosen = [(versions.get(tx, ref), weight) for ref, weight in weights.items()]
        recipe = ways.recipe_for(method, chosen, rank=rank, options=options, seed=seed, dtype=dtype)
        entry = register.Entry(name, None, alias, None, tags or {}, {}, note, force)
        return ways.merge_versions(self.rooms, entry, recipe, [version for version, _ in chosen], progress)

    def recipe(self, ref: str) -> Recipe | None:
        """How a merge was made; None for a version registered from files."""
        with self.rooms.catalog.reading() as tx:
            return recipes.get(tx, versions.get(tx, ref))

    def replay(self, ref: str) -> results.Replay:
        """Run the recipe of a merge again and say whether it gives the same bits, and what changed in the environment."""
        from adapterbank.ways import merge as ways

        return ways.replay(self.rooms, self._found([ref])[0])

    def revert(self, ref: str, directory: str | Path) -> results.Reverted:
        """Write the constituents of a merge beside each other under ``directory``."""
        from adapterbank.ways import merge as ways

        return ways.revert(self.rooms, self._found([ref])[0], Path(directory))
