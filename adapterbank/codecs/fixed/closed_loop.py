"""One module to codes: each side is quantized against what the other one decodes to, and the gains are least squares.

Noise of one side that lies in the span of the other can still be made good there. All is done in factors and r × r Gram
matrices; a dense ΔW is never built.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.fixed.quantizer import WIDTHS, fitted, quantize
from adapterbank.codecs.fixed.survey import Survey

_RIDGE = 1e-12  # of the mean diagonal: codes that are equal on both sides make the Gram matrix singular
_LEAST_GAIN = 1e-6  # of the largest, so that a scale is never zero or negative
_ROUNDS = 2
_UNIT = torch.ones(1)  # the target is in units of the code it replaces


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCodes:
    """The components kept of one module: codes ``B [k, d_out]`` and ``A [k, d_in]`` uint8, ``widths [2, k]`` uint8, ``scales
    [2, k]`` bfloat16 (see :func:`~adapterbank.codecs.fixed.planes.values`). ``squared_error`` is ‖ΔW − ΔŴ‖².
    """

    B: Tensor
    A: Tensor
    widths: Tensor
    scales: Tensor
    squared_error: float


def code_module(found: Survey, widths: Tensor, sweeps: int) -> ModuleCodes:
    """Codes of the components with ``widths [2, k]`` above 0, after ``sweeps`` of the closed loop over both sides."""
    kept = torch.nonzero(widths[0]).flatten()
    chosen = widths[:, kept]
    slots = torch.searchsorted(torch.tensor(WIDTHS, dtype=torch.uint8), chosen)
    start = found.scales[:, :, kept].gather(1, slots.unsqueeze(1)).squeeze(1)
    codes = [quantize(rows[kept], start[side], chosen[side]) for side, rows in enumerate((found.u, found.v))]
    gains = _gains(found, codes)
    for _ in range(sweeps if len(kept) else 0):
        for side in (0, 1):
            _requantize(found, codes, gains, chosen[side], side)
            gains = _gains(found, codes)
    scales = _balanced(codes, gains)
    B, A = (((side + (1 << wide.long().unsqueeze(1))) / 2).to(torch.uint8) for side, wide in zip(codes, chosen, strict=True))
    return ModuleCodes(B, A, chosen, scales, _squared_error(found, codes, scales))


def _requantize(found: Survey, codes: list[Tensor], gains: Tensor, widths: Tensor, side: int) -> None:
    """Replace the codes of one side, component by component, and fold each new scale into its gain.

    The target of component k is (ΔW − Σ_{l≠k} g_l·û_l·v̂_lᵀ)·v̂_k / (g_k·‖v̂_k‖²), and its mirror image for the other side.
    """
    own, others = (found.u, found.v) if side == 0 else (found.v, found.u)
    fixed, moved = codes[1 - side], codes[side]
    gram = (fixed.double() @ fixed.double().T) * gains
    pull = ((fixed @ others.T).double() * found.s / gram.diagonal().unsqueeze(1)).float() @ own
    for k in range(len(gains)):
        weights = gram[k] / gram[k, k]
        weights[k] = 0.0
        target = pull[k : k + 1] - weights.float() @ moved
        code, scale = fitted(target, _UNIT, widths[k : k + 1], _ROUNDS)
        moved[k] = code[0]
        gains[k] *= float(scale)
        gram[:, k] *= float(scale)


def _products(found: Survey, codes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """⟨û_k·v̂_kᵀ, û_l·v̂_lᵀ⟩ ``[k, k]`` and ⟨ΔW, û_k·v̂_kᵀ⟩ ``[k]`` in float64."""
    left, right = (side.double() for side in codes)
    gram = (left @ left.T) * (right @ right.T)
    target = ((left @ found.u.double().T) * (right @ found.v.double().T)) @ found.s
    return gram, target


def _gains(found: Survey, codes: list[Tensor]) -> Tensor:
    """The gains ``[k]`` of least squared error of ΔW."""
    gram, target = _products(found, codes)
    if not len(target):
        return target
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(target), dtype=torch.float64)
    gains: Tensor = torch.linalg.solve(gram + ridge, target)
    return gains.clamp_min(_LEAST_GAIN * float(gains.abs().max()))


def _balanced(codes: list[Tensor], gains: Tensor) -> Tensor:
    """Scales ``[2, k]`` in bfloat16 whose products are the gains and which make both sides equally long.

    The second side is rounded first and the first one makes up for it.
    """
    norms = [side.double().norm(dim=1) for side in codes]
    second = (gains * norms[0] / norms[1]).sqrt().bfloat16()
    first = (gains / second.double()).bfloat16()
    return torch.stack([first, second])


def _squared_error(found: Survey, codes: list[Tensor], scales: Tensor) -> float:
    gram, target = _products(found, codes)
    gains = scales[0].double() * scales[1].double()
    return float(found.s.square().sum() - 2.0 * gains @ target + gains @ gram @ gains)
