"""cluster: which adapters belong together, by the cosines of their deltas (Sub-MoE, arXiv 2506.23266, without data)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from adapterbank.catalog.rows import Version
from adapterbank.merge.clusters import Algorithm, assign
from adapterbank.merge.determinism import fixed_arithmetic
from adapterbank.merge.gram import cosines, gram_of_all
from adapterbank.merge.inputs import Inputs
from adapterbank.ways.joinable import each_once
from adapterbank.ways.merge import opened
from adapterbank.ways.merge_results import Cluster, Clustering
from adapterbank.ways.rooms import Rooms


def cluster(rooms: Rooms, chosen: Sequence[Version], count: int, algorithm: Algorithm = "kmeans") -> Clustering:
    """``chosen`` in ``count`` clusters. Raises UsageError for a count that is not between 1 and their number."""
    each_once(chosen, "a clustering")
    with opened(rooms, chosen) as sources, fixed_arithmetic():
        adapters = [source.adapter for source in sources]
        given = Inputs.of(adapters, [1.0] * len(adapters), [version.content for version in chosen], 0, ordered=True)
        matrix = cosines(gram_of_all(given, len(given)))
        found = assign(matrix, count, algorithm)
    refs = [version.ref for version in chosen]
    clusters = tuple(Cluster(tuple(refs[i] for i in found.members(number))) for number in range(found.count))
    return Clustering(
        tuple(refs), clusters, _known(found.within), _known(found.between), tuple(tuple(row) for row in matrix.tolist())
    )


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
