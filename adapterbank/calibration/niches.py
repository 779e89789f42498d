"""Niches of M2N2 ("Competition and Attraction Improve Model Fusion", GECCO 2025): data points are resources that run out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """``genomes [K, n, L]`` (coefficients) and their ``scores [K, J] ≥ 0`` on J data points."""

    genomes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return int(self.genomes.shape[0])


def shares(scores: Tensor, alpha: float) -> Tensor:
    """What each of ``scores [K, J]`` gets of each point: s_kj / z_j, z_j = (Σ_k s_kj)^α. A point nobody scores gives nothing.

    At α = 1 the shares of a point add up to 1, at α = 0 everyone gets all of it.
    """
    total = scores.sum(dim=0)
    return scores / torch.where(total > 0.0, total, 1.0) ** alpha


def fitness(scores: Tensor, alpha: float) -> Tensor:
    """The sum of each one's shares, ``[K]``."""
    return shares(scores, alpha).sum(dim=1)


def attraction(share: Tensor, first: int) -> Tensor:
    """How much each member would add to ``first`` where that one is weak: Σ_j max(0, share_kj − share_first,j), ``[K]``."""
    return (share - share[first]).clamp_min(0.0).sum(dim=1)


def parents(archive: Archive, alpha: float, draw: torch.Generator) -> tuple[int, int]:
    """A parent drawn by fitness, and a second one by attraction to it.

    Where nothing is left to choose by (no score at all, nobody better anywhere) the draw is uniform; the authors' code
    divides by zero there.
    """
    share = shares(archive.scores, alpha)
    first = _drawn(share.sum(dim=1), draw)
    return first, _drawn(attraction(share, first), draw)


def _drawn(chances: Tensor, draw: torch.Generator) -> int:
    usable = chances if float(chances.sum()) > 0.0 else torch.ones_like(chances)
    return int(torch.multinomial(usable, 1, generator=draw))


def inserted(archive: Archive, genome: Tensor, score: Tensor, size: int, alpha: float) -> Archive:
    """The archive with one more member, or beyond ``size`` without the least fit of all, who may be the new one."""
    genomes = torch.cat([archive.genomes, genome[None]])
    scores = torch.cat([archive.scores, score[None]])
    if len(genomes) > size:
        worst = int(fitness(scores, alpha).argmin())
        keep = torch.arange(len(genomes)) != worst
        genomes, scores = genomes[keep], scores[keep]
    return Archive(genomes, scores)
