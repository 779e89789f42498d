"""Pareto dominance: which points are best in no trade-off worse than another, and a few of them far apart."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 256  # points compared with all others at a time


def non_dominated(values: Tensor) -> Tensor:
    """Which rows of ``values [m, T]`` (larger is better) no other row dominates, bool ``[m]``.

    A row dominates another if it is at least as good everywhere and better somewhere; equal rows do not dominate each other.
    """
    keep = torch.ones(values.shape[0], dtype=torch.bool)
    for start in range(0, values.shape[0], _ROWS):
        rows = values[start : start + _ROWS, None]
        as_good, better = (values[None] >= rows).all(dim=2), (values[None] > rows).any(dim=2)
        keep[start : start + _ROWS] = ~(as_good & better).any(dim=1)
    return keep


def spread(values: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` rows of ``values [m, T]``: the best of each column, then always the one farthest from all.

    Columns are scaled to [0, 1] first. Equal rows are taken once. The order is that of the choice, so it is deterministic.
    """
    width = (values.amax(dim=0) - values.amin(dim=0)).clamp_min(torch.finfo(values.dtype).tiny)
    scaled = (values - values.amin(dim=0)) / width
    chosen: list[int] = []
    distance = torch.full((values.shape[0],), float("inf"), dtype=values.dtype)
    extremes = [int(best) for best in scaled.argmax(dim=0)]
    while len(chosen) < count and float(distance.max()) > 0.0:
        pick = extremes.pop(0) if extremes else int(distance.argmax())
        if float(distance[pick]) > 0.0:
            chosen.append(pick)
            distance = torch.minimum(distance, (scaled - scaled[pick]).norm(dim=1))
    return torch.tensor(chosen, dtype=torch.long)
