"""Which adapters belong together: n of them assigned to k clusters by the cosines of their deltas.

Sub-MoE (arXiv 2506.23266) clusters experts by K-means on the cosines of their outputs; without data the cosines of ΔW stand
for them. Everything needed is the matrix of cosines, so nothing is dense, and no random start is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapterbank.errors import UsageError

Algorithm = Literal["kmeans", "agglomerative"]
_EQUAL = 1e-9  # cosines closer than this count as equal, so that rounding decides nothing
_SWEEPS = 100


@dataclass(frozen=True, slots=True)
class Assignment:
    """``clusters[i]`` is the cluster of adapter i, numbered in order of their first adapters.

    ``within`` is the mean cosine of two adapters of one cluster, ``between`` that of two of different ones; NaN for no pair.
    """

    clusters: tuple[int, ...]
    within: float
    between: float

    def members(self, cluster: int) -> tuple[int, ...]:
        """The places of the adapters of ``cluster``."""
        return tuple(i for i, own in enumerate(self.clusters) if own == cluster)

    @property
    def count(self) -> int:
        """The number of clusters."""
        return len(set(self.clusters))


def assign(cosines: Tensor, k: int, algorithm: Algorithm = "kmeans") -> Assignment:
    """Assign n adapters with these ``cosines [n, n]`` to k clusters, none of them empty.

    ``kmeans`` is Lloyd's algorithm on the unit deltas, started from the medoid and then always the adapter farthest from what
    was chosen; ``agglomerative`` joins the two clusters of largest mean cosine until k are left. Raises UsageError for a k
    that is not between 1 and n.
    """
    n = len(cosines)
    if not 1 <= k <= n:
        raise UsageError(f"clusters: got {k}, expected 1 to {n}, the number of adapters")
    found = _kmeans(cosines, k) if algorithm == "kmeans" else _agglomerative(cosines, k)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(found))}
    clusters = torch.tensor([numbers[label] for label in found])
    same = clusters == clusters.unsqueeze(1)
    return Assignment(
        tuple(clusters.tolist()),
        float(cosines[same & ~torch.eye(n, dtype=torch.bool)].mean()),
        float(cosines[~same].mean()),
    )


def medoid(cosines: Tensor, weights: Tensor | None = None) -> int:
    """The adapter of largest (weighted) sum of cosines to all; the first of equals."""
    sums = cosines @ (torch.ones(len(cosines), dtype=cosines.dtype) if weights is None else weights.abs())
    allowed = torch.ones(len(cosines), dtype=torch.bool) if weights is None else weights != 0.0
    sums = sums.masked_fill(~allowed, -torch.inf) if bool(allowed.any()) else sums
    return int((sums >= sums.max() - _EQUAL * len(cosines)).nonzero()[0])


def _kmeans(cosines: Tensor, k: int) -> list[int]:
    seeds = _spread(cosines, k)
    found = _nearest(cosines[:, seeds])
    found[seeds] = torch.arange(k)  # where seeds are copies of one another, nearest alone would leave clusters empty
    for _ in range(_SWEEPS):
        one_hot = torch.nn.functional.one_hot(found, k).to(cosines.dtype)
        means = one_hot / one_hot.sum(dim=0).clamp(min=1.0)  # centre c is Σ means[i, c]·unit delta i
        towards = 2.0 * cosines @ means - (means * (cosines @ means)).sum(dim=0)  # 1 − squared distance to each centre
        turned = _nearest(towards)
        if torch.equal(turned, found) or len(set(turned.tolist())) < k:
            break
        found = turned
    return [int(label) for label in found]


def _spread(cosines: Tensor, k: int) -> list[int]:
    chosen = [medoid(cosines)]
    while len(chosen) < k:
        closest = cosines[:, chosen].amax(dim=1)
        closest[chosen] = torch.inf  # copies of one adapter may fill several clusters, but none is chosen twice
        chosen.append(int((closest <= closest.min() + _EQUAL).nonzero()[0]))
    return chosen


def _nearest(towards: Tensor) -> Tensor:
    """The column of the largest entry of each row, the first of equals."""
    return (towards >= towards.amax(dim=1, keepdim=True) - _EQUAL).to(torch.int64).argmax(dim=1)


def _agglomerative(cosines: Tensor, k: int) -> list[int]:
    groups = [[i] for i in range(len(cosines))]
    while len(groups) > k:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        means = torch.stack([cosines[groups[i]][:, groups[j]].mean() for i, j in pairs])
        i, j = pairs[int((means >= means.max() - _EQUAL).nonzero()[0])]
        groups[i] += groups.pop(j)
    return [next(number for number, group in enumerate(groups) if i in group) for i in range(len(cosines))]
