"""Where MAP (arXiv 2406.07529) evaluates merges: coefficient vectors of four kinds, and Sobol points."""

from __future__ import annotations

import torch
from torch import Tensor

_DISTURBANCE = 0.1  # the authors' standard deviation


def sobol(count: int, n: int, seed: int) -> Tensor:
    """``count`` scrambled Sobol points of [0, 1]ⁿ, ``[count, n]`` float64."""
    engine = torch.quasirandom.SobolEngine(n, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    return engine.draw(count, dtype=torch.float64)


def mixed(count: int, n: int, seed: int, *, isotropic: float, one_hot: float) -> Tensor:
    """The authors' mix ``[count, n]`` in [0, 1]: the n one-hot vectors, then of the rest the shares asked for, half disturbed.

    ``isotropic`` is the share of the points c·1 (half of them disturbed by noise of deviation 0.1), ``one_hot`` that of
    disturbed one-hot vectors. The rest are Sobol points: the authors' grid has 2ⁿ corners before it has anything between.
    """
    draw = torch.Generator().manual_seed(seed)
    rest = max(0, count - n)
    equal = torch.rand(int(isotropic * rest) // 2, 1, generator=draw, dtype=torch.float64).expand(-1, n)
    corners = torch.eye(n, dtype=torch.float64)
    parts = [corners, equal, _disturbed(equal, equal.shape[0], draw), _disturbed(corners, int(one_hot * rest), draw)]
    taken = sum(part.shape[0] for part in parts)
    return torch.cat([*parts, sobol(max(0, count - taken), n, seed)])[:count]


def _disturbed(points: Tensor, count: int, draw: torch.Generator) -> Tensor:
    if count == 0:
        return points[:0]
    picks = torch.randint(points.shape[0], (count,), generator=draw)
    noise = torch.randn(count, points.shape[1], generator=draw, dtype=torch.float64)
    return (points[picks] + _DISTURBANCE * noise).clamp(0.0, 1.0)
