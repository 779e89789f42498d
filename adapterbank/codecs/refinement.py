"""The encoder's half of the prediction ``refined``: a module seen in the gauge that is nearest to its reference's.

x is sought by least squares given the reference's y, then y given what x became; only what both cannot reach is coded as new
components.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adapterbank.codecs.classes import GAINS
from adapterbank.codecs.components import DISTORTION, Kept, Side, first_gains, first_targets, ideal, worth_coding
from adapterbank.codecs.prediction import FURTHEST, Components, Known
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.tables import FINE
from adapterbank.lora.adapter import Factors

_RIDGE = 1e-9


def known(spectrum: Spectrum, components: Components) -> Known:
    """What ``components``, at least one, tell about the ΔW of ``spectrum``."""
    x, y = (torch.from_numpy(points / FINE) for points in (components.x, components.y))
    G = torch.exp2(torch.from_numpy(components.gains).double() / GAINS)
    U, V, s = spectrum.U.double(), spectrum.V.double(), spectrum.s
    weights = _solved((x @ x.T) * (y @ y.T), ((x @ U.T) * s * (y @ V.T)).sum(dim=1)) * G
    left = _solved(y @ y.T, (y @ V.T * s) @ U)  # of ΔW = Σ left_k·y_kᵀ
    right = _solved(left @ left.T, (left @ U.T * s) @ V)
    missed = [(left * G.unsqueeze(1) - weights.unsqueeze(1) * x) * (y.norm(dim=1) / G).unsqueeze(1)]
    missed.append((right - y) * left.norm(dim=1).unsqueeze(1))
    P, Q = (torch.linalg.qr(span.T).Q for span in (left, y))
    beyond = Spectrum.of(Factors(V - (V @ Q) @ Q.T, (U.T - P @ (P.T @ U.T)) * s))
    return Known(components, weights, torch.stack([rest.square().sum(dim=1) for rest in missed]), beyond)


def _solved(system: Tensor, right: Tensor) -> Tensor:
    ridge = _RIDGE * system.diagonal().mean() * torch.eye(len(system), dtype=system.dtype)
    solution: Tensor = torch.linalg.solve(system + ridge, right)
    return solution


def promised(subject: Known, d_out: int, d_in: int, step: float) -> tuple[float, float]:
    """Squared error and bits of an ideal Gaussian code of the rests and the new components at ``step``."""
    error, bits = ideal(subject.beyond, step)
    for rests, d in zip(subject.rests, (d_out, d_in), strict=True):
        noise = DISTORTION * d * step**2
        error += float(rests.clamp(max=noise).sum())
        bits += float(0.5 * d * (rests / noise).clamp(min=1.0).log2().sum())
    return error, bits


def started(subject: Known, step: float) -> Kept:
    """The reference's components with the gains that they have in ΔW, and the new ones that may be worth it: ``index`` counts
    both, the sides are as far as they are known."""
    moved = torch.round(GAINS * torch.log2((subject.weights / step).clamp(min=1e-300))).long()
    old = torch.nonzero(moved.abs() <= FURTHEST).flatten()
    new = worth_coding(subject.beyond, step)
    gains = first_gains(subject.beyond, new, step)
    index = torch.cat([old, new + len(subject.weights)])
    gains = torch.cat([torch.from_numpy(subject.components.gains)[old] + moved[old], gains])
    kept = Kept(index, gains, Side.unset(), Side.unset())
    sides = []
    for left, own in zip((True, False), first_targets(subject.beyond, new, gains[len(old) :], step), strict=True):
        points = torch.cat([predicted(subject, kept, left)[: len(old)], own])
        sides.append(replace(Side.unset(), points=points))
    return Kept(index, gains, *sides)


def predicted(subject: Known, kept: Kept, left: bool) -> Tensor:
    """What the decoder knows of x if ``left``, else of y ``[L, d]`` in Δ: zeros for new components."""
    old = kept.index < len(subject.weights)
    points = subject.components.scaled(kept.index[old].numpy(), kept.gains[old].numpy(), left)
    found = torch.zeros(len(kept.index), points.shape[1])
    found[old] = torch.from_numpy(points / FINE).float()
    return found


def shared_out(subject: Known, kept: Kept, target: Tensor) -> Tensor:
    """``target [L, d_out]`` of x without what y takes at a smaller price.

    A rest x_j·M_jk·y_kᵀ may be x_k's, of size S_j·M_jk, or y_j's, of S_k·M_jk: x gets the share of it with which the squares
    of both are least. What is left out is y's by least squares.
    """
    old = kept.index < len(subject.weights)
    points = predicted(subject, kept, left=True)[old]
    rest = target[old] - points
    mix = _solved((points @ points.T).double(), (points @ rest.T).double()).T
    size = kept.G[old].square()
    share = size.unsqueeze(1) / (size.unsqueeze(1) + size)
    found = target.clone()
    found[old] -= (mix * (1.0 - share)).float() @ points
    return found
