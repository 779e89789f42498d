"""Blends and clusters: adapters mixed without being stored, and sorted by what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from adapterbank.bank.merges import Merges, Rank
from adapterbank.errors import UsageError
from adapterbank.ways import merge_results, results


class Blends(Merges):
    """What stands beside merges that are kept."""

    def blend(
        self,
        weights: Mapping[str, float],
        *,
        rank: Rank = None,
        dtype: str = "float32",
        progress: results.Progress | None = None,
    ) -> merge_results.Blended:
        """``Σ w·ΔW`` as one adapter in memory, exact: the constituents side by side along the rank axis; with ``rank`` cut to
        it, with the residual. Nothing is stored."""
        from adapterbank.ways import blend as ways

        return ways.blend(self.rooms, self._weighted(weights), rank=rank, dtype=dtype, progress=progress)

    def write_blend(
        self,
        weights: Mapping[str, float],
        directory: str | Path,
        *,
        rank: Rank = None,
        dtype: str = "float32",
        progress: results.Progress | None = None,
    ) -> merge_results.WrittenBlend:
        """The same, written as a PEFT directory. Raises ConflictError if it is there and not empty."""
        from adapterbank.ways import blend as ways

        chosen = self._weighted(weights)
        return ways.write_blend(self.rooms, chosen, Path(directory), rank=rank, dtype=dtype, progress=progress)

    def cluster(
        self,
        refs: Sequence[str],
        clusters: int,
        *,
        algorithm: Literal["kmeans", "agglomerative"] = "kmeans",
        method: str | None = None,
        name: str | None = None,
        progress: results.Progress | None = None,
    ) -> merge_results.Clustering:
        """Which adapters belong together, by the cosines of their ΔW. With ``method`` each cluster of two or more is merged and
        registered as ``name-1``, ``name-2`` … Raises UsageError for a number of clusters that cannot be."""
        from adapterbank.ways import cluster as ways

        if (method is None) != (name is None):
            raise UsageError("merging clusters takes a method and a name")
        found = ways.cluster(self.rooms, self._found(refs), clusters, algorithm)
        if method is None or name is None:
            return found
        merged = []
        for number, cluster in enumerate(found.clusters, start=1):
            if len(cluster.refs) > 1:
                done = self.merge(method, dict.fromkeys(cluster.refs, 1.0), name=f"{name}-{number}", progress=progress)
                cluster = replace(cluster, merged=done.ref)
            merged.append(cluster)
        return replace(found, clusters=tuple(merged))
