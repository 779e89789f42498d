"""Pareto dominance: which points are best in no trade-off worse than another, and a few of them far apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS = 256  # points compared with all others at a time


def non_dominated(values: Tensor, slack: Tensor | None = None) -> Tensor:
    """Which rows of ``values [m, T]`` (larger is better) no other row dominates, bool ``[m]``.

    A row dominates another if it is at least as good everywhere and better somewhere; equal rows do not dominate each other.
    With ``slack [m, m, T]``, which for two rows says what difference is noise, at most that much worse everywhere and more than
    that better somewhere is enough.
    """
    keep = torch.ones(values.shape[0], dtype=torch.bool)
    for start in range(0, values.shape[0], _ROWS):
        rows = values[start : start + _ROWS, None]
        noise = values.new_zeros(()) if slack is None else slack[start : start + _ROWS]
        as_good, better = (values[None] >= rows - noise).all(dim=2), (values[None] > rows + noise).any(dim=2)
        keep[start : start + _ROWS] = ~(as_good & better).any(dim=1)
    return keep


def apart(values: Tensor, slack: Tensor) -> Tensor:
    """Which rows of ``values [m, T]`` are somewhere better than every row of a better mean, by more than ``slack [m, m, T]``,
    bool ``[m]``: of rows that differ by noise only the one of the best mean."""
    means = values.mean(dim=1)
    better = (values[:, None] > values[None] + slack).any(dim=2)
    return (better | (means[None] <= means[:, None])).all(dim=1)


def standard_errors(examples: Sequence[Tensor]) -> Tensor:
    """Of the difference between the means of each two rows, ``[m, m, T]``; ``examples`` holds for each of T columns all values
    ``[m, J_t]``, the same examples in every row. Of a single example nothing is known: 0."""
    errors = []
    for own in examples:
        covariance = torch.cov(own).reshape(len(own), len(own)) if own.shape[1] > 1 else own.new_zeros(len(own), len(own))
        variance = covariance.diagonal()
        errors.append(((variance[:, None] + variance - 2.0 * covariance).clamp_min(0.0) / own.shape[1]).sqrt())
    return torch.stack(errors, dim=2)


def spread(values: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` rows of ``values [m, T]``, larger is better, in the order in which they are chosen.

    The best mean first, then the best of each column, then always the one farthest from all, columns scaled to [0, 1]. Equal
    rows are taken once.
    """
    width = (values.amax(dim=0) - values.amin(dim=0)).clamp_min(torch.finfo(values.dtype).tiny)
    scaled = (values - values.amin(dim=0)) / width
    chosen: list[int] = []
    distance = torch.full((values.shape[0],), float("inf"), dtype=values.dtype)
    first = [int(values.mean(dim=1).argmax()), *scaled.argmax(dim=0).tolist()]
    while len(chosen) < count and float(distance.max()) > 0.0:
        pick = first.pop(0) if first else int(distance.argmax())
        if float(distance[pick]) > 0.0:
            chosen.append(pick)
            distance = torch.minimum(distance, (scaled - scaled[pick]).norm(dim=1))
    return torch.tensor(chosen, dtype=torch.long)
