"""Rules that make one small core ``[r, r]`` of n: what Compress-then-Merge runs in its subspaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.merge.consensus import disjoint_mean, elect
from adapterbank.merge.core import LowRank
from adapterbank.merge.streams import kept
from adapterbank.merge.triplets import Triplets, isotropic, orthogonalised, side_by_side, task_triplets, triplets


@dataclass(frozen=True, slots=True, eq=False)
class Cores:
    """``values [n, r, r]``, the weights in them; ``keys`` are those of the adapters' random streams in this module.

    ``density`` is what TIES keeps of each core, ``dare_density`` what DARE does.
    """

    values: Tensor
    keys: tuple[tuple[int, int], ...]
    density: float
    dare_density: float


def plain_sum(cores: Cores) -> Tensor:
    """Task arithmetic in the subspaces."""
    return cores.values.sum(dim=0)


def ties(cores: Cores) -> Tensor:
    """Of each core the ``max(1, ⌊density·r²⌋)`` largest entries with all equally large; elect signs; mean of what agrees."""
    flat = cores.values.abs().flatten(1)
    count = max(1, int(cores.density * flat.shape[1]))
    thresholds = flat.topk(count, dim=1).values[:, -1].view(-1, 1, 1)
    trimmed = cores.values.masked_fill(cores.values.abs() < thresholds, 0.0)
    elected = elect(trimmed, lambda: float(trimmed.sum(dim=0).sign().sum().sign()))
    return disjoint_mean(trimmed, elected, trimmed.new_ones(len(trimmed)))


def dare_ties(cores: Cores) -> Tensor:
    """DARE's masks on every core, entries numbered in row-major order, then :func:`ties`."""
    entries = cores.values[0].numel()
    masks = torch.stack([kept(key, 0, entries, cores.dare_density) for key in cores.keys]).to(cores.values.device)
    return ties(replace(cores, values=cores.values.masked_fill(~masks.view_as(cores.values), 0.0) / cores.dare_density))


def tsv(cores: Cores) -> Tensor:
    """TSV-Merge: the ``⌊r/n⌋`` leading triplets of each core, orthogonalised."""
    parts = [part for part in map(_spectrum, cores.values) if len(part)]
    return _dense(orthogonalised(side_by_side(task_triplets(parts, cores.values.shape[1]))))


def iso(cores: Cores) -> Tensor:
    """Iso-C: the sum with a flat spectrum."""
    return _dense(isotropic(_spectrum(plain_sum(cores))))


def _spectrum(core: Tensor) -> Triplets:
    return triplets(LowRank(core, torch.eye(core.shape[1], dtype=core.dtype, device=core.device)))


def _dense(matrix: LowRank) -> Tensor:
    return matrix.left @ matrix.right.T


RULES: Mapping[str, Callable[[Cores], Tensor]] = {
    "ties": ties,
    "sum": plain_sum,
    "dare_ties": dare_ties,
    "tsv": tsv,
    "iso": iso,
}
