"""The uniform mid-rise quantizer with 2^b levels: a value becomes an odd multiple of one scale for each vector."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTHS = (1, 2, 3, 4, 5, 6, 8)
# Half the step of the uniform quantizer of least squared error for a standard Gaussian (Max 1960, table II).
_GAUSSIAN = {1: 0.798, 2: 0.49785, 3: 0.293, 4: 0.1676, 5: 0.09405, 6: 0.05205, 8: 0.0154}
_TINY = 1e-30  # keeps the scale of a zero vector from dividing by zero


def gaussian_scale(rows: Tensor, width: int) -> Tensor:
    """The scale ``[k]`` that is best for Gaussian vectors of the size of ``rows [k, d]``."""
    return rows.square().mean(dim=1).sqrt() * _GAUSSIAN[width]


def quantize(rows: Tensor, scale: Tensor, widths: Tensor) -> Tensor:
    """The nearest odd multiple of ``scale [k]`` to each entry of ``rows [k, d]``, as an integer in their dtype.

    ``widths [k]`` bits: the result c is odd, and |c| < 2^width.
    """
    half = (1 << (widths.to(torch.int64) - 1)).to(rows.dtype).unsqueeze(1)
    cells = (rows / (2.0 * scale.clamp_min(_TINY)).to(rows.dtype).unsqueeze(1)).floor_()
    return cells.clamp_(-half, half - 1.0).mul_(2.0).add_(1.0)


def fitted(rows: Tensor, scale: Tensor, widths: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Codes ``[k, d]`` and their least-squares scale ``[k]``, after ``rounds`` of one after the other (Lloyd's iteration)."""
    codes = rows
    for _ in range(rounds):
        codes = quantize(rows, scale, widths)
        scale = (rows * codes).sum(dim=1) / codes.square().sum(dim=1)
    return codes, scale


def distortion(rows: Tensor, codes: Tensor) -> Tensor:
    """‖x − c·(x·c)/(c·c)‖² / ‖x‖² ``[k]``: what the best multiple of ``codes`` leaves of ``rows``, between 0 and 1."""
    explained = (rows * codes).sum(dim=1).square() / (codes.square().sum(dim=1) * rows.square().sum(dim=1).clamp_min(_TINY))
    return (1.0 - explained).clamp(0.0, 1.0)
