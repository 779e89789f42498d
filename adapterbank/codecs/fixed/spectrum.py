"""A module in its SVD gauge, and how well each component's sides survive each width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.fixed.quantizer import WIDTHS, distortion, fitted, gaussian_scale
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Factors

_ROUNDS = 3  # Lloyd's iteration gains less than 0.1 % after the third
_LARGEST, _LEAST = 1e60, 1e-60  # of singular values whose scales, on balanced sides, are normal float32 numbers


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """ΔW = Σ_k s_k·u_k·v_kᵀ with s descending and above the noise of rounding.

    ``u [k, d_out]`` and ``v [k, d_in]`` float32, rows of norm 1; ``s [k]`` float64. ``scales`` and ``losses`` are
    ``[2, widths, k]`` (0 is the side u): the least-squares scale at each width, and what it leaves of the vector's square.
    """

    u: Tensor
    s: Tensor
    v: Tensor
    scales: Tensor
    losses: Tensor


def spectrum(name: str, factors: Factors) -> Spectrum:
    """The spectrum of one module; UsageError if it holds NaN or infinite values."""
    Q_B, R_B = torch.linalg.qr(factors.B.double() * factors.scaling)
    Q_A, R_A = torch.linalg.qr(factors.A.T.double())
    core = R_B @ R_A.T
    if not bool(core.abs().max() < _LARGEST if core.numel() else True):
        raise UsageError(f"module {name!r} holds NaN, infinite or too large values: expected ΔW below {_LARGEST:.0e}")
    U, s, Vh = torch.linalg.svd(core, full_matrices=False)
    noise = torch.finfo(torch.float64).eps * factors.rank * float(R_B.norm() * R_A.norm())
    live = int((s > max(noise, _LEAST)).sum())
    u = (Q_B @ U[:, :live]).T.float().contiguous()
    v = (Q_A @ Vh[:live].T).T.float().contiguous()
    (scales_u, losses_u), (scales_v, losses_v) = _surveyed(u), _surveyed(v)
    return Spectrum(u, s[:live], v, torch.stack([scales_u, scales_v]), torch.stack([losses_u, losses_v]))


def _surveyed(rows: Tensor) -> tuple[Tensor, Tensor]:
    scales, losses = [], []
    for width in WIDTHS:
        widths = torch.full((len(rows),), width)
        codes, scale = fitted(rows, gaussian_scale(rows, width), widths, 1 if width == 1 else _ROUNDS)
        scales.append(scale)
        losses.append(distortion(rows, codes).double())
    return torch.stack(scales), torch.stack(losses)
