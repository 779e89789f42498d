"""How well the sides of each component of a module survive each width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.fixed.quantizer import WIDTHS, distortion, fitted, gaussian_scale
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Factors

_ROUNDS = 3  # Lloyd's iteration gains less than 0.1 % after the third
_LARGEST, _LEAST = 1e60, 1e-60  # of singular values whose scales, on balanced sides, are normal float32 numbers


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A module in its SVD gauge: ``s [k]`` float64 descending, ``u [k, d_out]`` and ``v [k, d_in]`` float32 rows of norm 1.

    ``scales`` and ``losses`` are ``[2, widths, k]`` (0 is the side u): the least-squares scale at each width, and the share of
    the vector's square that it leaves over.
    """

    u: Tensor
    s: Tensor
    v: Tensor
    scales: Tensor
    losses: Tensor


def survey(name: str, factors: Factors) -> Survey:
    """The survey of one module; UsageError if it holds NaN, infinite or absurdly large values."""
    bound = factors.scaling * factors.B.double().norm() * factors.A.double().norm()
    if not bool(bound.abs() < _LARGEST):
        raise UsageError(f"module {name!r} holds NaN, infinite or too large values: expected ΔW below {_LARGEST:.0e}")
    found = Spectrum.of(factors)
    live = int((found.s > _LEAST).sum())
    u, v = found.U[:live].contiguous(), found.V[:live].contiguous()
    (scales_u, losses_u), (scales_v, losses_v) = _of_side(u), _of_side(v)
    return Survey(u, found.s[:live], v, torch.stack([scales_u, scales_v]), torch.stack([losses_u, losses_v]))


def _of_side(rows: Tensor) -> tuple[Tensor, Tensor]:
    scales, losses = [], []
    for width in WIDTHS:
        widths = torch.full((len(rows),), width)
        codes, scale = fitted(rows, gaussian_scale(rows, width), widths, 1 if width == 1 else _ROUNDS)
        scales.append(scale)
        losses.append(distortion(rows, codes).double())
    return torch.stack(scales), torch.stack(losses)
