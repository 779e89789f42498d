"""The loop of M2N2 on coefficients: founders, parents, a child between them, a place in the archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.calibration.niches import Archive, inserted, parents
from adapterbank.calibration.spherical import slerp

Evaluate = Callable[[Tensor], Tensor]  # coefficients [n, L] -> scores [J]


@dataclass(frozen=True, slots=True, eq=False)
class Evolution:
    """The last archive; the best founder, the best genome ever seen, and its worth after the founders and after every child."""

    archive: Archive
    founder: Tensor
    best: Tensor
    trace: list[float]


@dataclass(frozen=True, slots=True)
class Rules:
    """``size`` of the archive, ``alpha`` of the competition, and how many children are made."""

    generations: int
    size: int = 20
    alpha: float = 1.0


def founders(n: int, layers: int) -> Tensor:
    """The adapters alone, as genomes ``[n, n, layers]``."""
    return torch.eye(n, dtype=torch.float64)[:, :, None].expand(-1, -1, layers).clone()


def crossover(first: Tensor, second: Tensor, depth: Tensor, products: Tensor, draw: torch.Generator) -> Tensor:
    """The spherical interpolation at w left of a random split point and 1 − w right of it, w uniform in [0, 1].

    ``depth [L]`` says at which fraction of the model each module begins; the split point is uniform in [0, 1).
    """
    split, w = torch.rand(2, generator=draw, dtype=torch.float64)
    return slerp(first, second, torch.where(depth < split, w, 1.0 - w), products)


def evolve(
    evaluate: Evaluate,
    worth: Callable[[Tensor], float],
    products: Tensor,
    depth: Tensor,
    rules: Rules,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Evolution:
    """Evolve from the founders; ``worth`` ranks a genome by its scores, ``products [L, n, n]`` are those of the deltas."""
    draw = torch.Generator().manual_seed(seed)
    layers, n = products.shape[:2]
    archive: Archive | None = None
    founder = best = founders(n, layers)[0]
    trace = [float("-inf")]
    for step in range(n + rules.generations):
        genome = founders(n, layers)[step] if step < n else _child(archive, rules.alpha, depth, products, draw)
        scores = evaluate(genome)
        archive = _with(archive, genome, scores, rules)
        if worth(scores) > trace[-1]:
            best = genome
            founder = genome if step < n else founder
        trace.append(max(trace[-1], worth(scores)))
        if progress is not None:
            progress(step + 1, n + rules.generations)
    assert archive is not None
    return Evolution(archive, founder, best, trace[n:])


def _child(archive: Archive | None, alpha: float, depth: Tensor, products: Tensor, draw: torch.Generator) -> Tensor:
    assert archive is not None
    first, second = parents(archive, alpha, draw)
    return crossover(archive.genomes[first], archive.genomes[second], depth, products, draw)


def _with(archive: Archive | None, genome: Tensor, scores: Tensor, rules: Rules) -> Archive:
    if archive is None:
        return Archive(genome[None], scores[None])
    return inserted(archive, genome, scores, rules.size, rules.alpha)


def depth_shares(order: Sequence[str], sizes: Sequence[int], modules: Sequence[str]) -> Tensor:
    """At which fraction of all entries each of ``modules`` begins when they are laid out in ``order``, ``[L]`` in [0, 1).

    ``sizes`` are the numbers of entries of ``modules``.
    """
    place = {name: at for at, name in enumerate(order)}
    ranked = sorted(range(len(modules)), key=lambda index: place[modules[index]])
    begins, at = torch.zeros(len(modules), dtype=torch.float64), 0
    for index in ranked:
        begins[index], at = at, at + sizes[index]
    return begins / max(at, 1)
