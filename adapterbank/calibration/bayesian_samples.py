"""The Bayesian form of MAP (arXiv 2406.07529): sample next where the surrogates are wrong or unsure.

Coefficient vectors are looked at by direction: hyperspherical angles, each cut into bins. A bin is scored by mean plus half
the standard deviation of the surrogates' errors among the samples in it, the next directions are drawn by
softmax(score/0.07), radii uniformly in [0, 1.5]. Ours, as the published text leaves it open: bins are those of one angle at
a time (a product of bins would have more of them than there are samples), a bin without samples has the largest score, errors
are relative to their largest, and points are cut to the bounds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 0.07
_RADIUS = 1.5


def angles(points: Tensor) -> Tensor:
    """The n − 1 hyperspherical angles of ``points [m, n] ≥ 0``, ``[m, n − 1]`` in [0, π/2]."""
    rest = points.square().flip(1).cumsum(dim=1).flip(1).sqrt()  # ‖(c_k, …, c_n)‖
    return torch.atan2(rest[:, 1:], points[:, :-1])


def directions(angle: Tensor) -> Tensor:
    """The unit vectors ``[m, n]`` of ``angle [m, n − 1]``: the inverse of :func:`angles`."""
    ones = torch.ones_like(angle[:, :1])
    return torch.cat([ones, torch.sin(angle)], dim=1).cumprod(dim=1) * torch.cat([torch.cos(angle), ones], dim=1)


def bin_scores(angle: Tensor, errors: Tensor, bins: int) -> Tensor:
    """Mean plus half the standard deviation of ``errors [m]`` per bin of every angle, ``[n − 1, bins]``."""
    place = (angle / (math.pi / 2) * bins).long().clamp(0, bins - 1)
    scores = torch.full((angle.shape[1], bins), float("nan"), dtype=errors.dtype)
    for axis in range(angle.shape[1]):
        for index in range(bins):
            inside = errors[place[:, axis] == index]
            if len(inside):
                scores[axis, index] = inside.mean() + 0.5 * inside.std(correction=0)
    highest = scores.nan_to_num(nan=-math.inf).amax()
    return torch.where(scores.isnan(), highest, scores)


def next_points(points: Tensor, errors: Tensor, count: int, bins: int, draw: torch.Generator) -> Tensor:
    """``count`` new coefficient vectors ``[count, n] ≥ 0``, given the surrogates' ``errors [m] ≥ 0`` at ``points [m, n]``."""
    largest = float(errors.max())
    scores = bin_scores(angles(points), errors / largest if largest > 0.0 else errors, bins)
    chances = torch.softmax(scores / _TEMPERATURE, dim=1)
    chosen = torch.multinomial(chances, count, replacement=True, generator=draw).T  # [count, n − 1]
    inside = torch.rand(chosen.shape, generator=draw, dtype=torch.float64)
    radii = _RADIUS * torch.rand(count, 1, generator=draw, dtype=torch.float64)
    return directions((chosen + inside) / bins * (math.pi / 2)) * radii
