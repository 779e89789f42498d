"""The Gaussian Shannon bound for singular vectors with independent entries, in the metric of the product.

A component s·u·vᵀ whose sides are coded with normalised squared errors a and b comes back with the squared error
s²·(1 − (1 − a)(1 − b)) and costs −½·d_out·log₂a − ½·d_in·log₂b bits at least. Reverse water-filling: at one slope λ every
component takes the sides that minimise error + λ·bits, or nothing, since the trade-off is not convex:

    a(1 − b) = μ·d_out,  b(1 − a) = μ·d_in,  μ = λ / (2·ln2·s²).

It is a bound for this model of the data (given the singular values, which it has for nothing), not for every coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.gauge import frames, turned_rows

_STEPS = 80


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """All components of one adapter: squared singular values of ΔW ``[K]`` and the lengths of their two sides."""

    energy: Tensor
    d_out: Tensor
    d_in: Tensor
    parameters: int

    @classmethod
    def of(cls, adapter: Adapter) -> Spectrum:
        """The spectrum of an adapter, module by module."""
        found = []
        for factors in adapter.modules.values():
            (frame,) = frames([factors], "svd")
            rows = turned_rows(factors, frame, slice(0, factors.d_out))
            energy = rows.square().sum(dim=0).square()  # ‖√s·u‖² = s
            found.append((energy, torch.full_like(energy, factors.d_out), torch.full_like(energy, factors.d_in)))
        return cls(*(torch.cat(parts) for parts in zip(*found, strict=True)), adapter.parameters)

    def at_slope(self, slope: float) -> tuple[float, float]:
        """Relative error, a square root, and bits per parameter at λ = ``slope`` (squared error for a bit)."""
        p, q = (slope / (2.0 * log(2.0)) / self.energy * side for side in (self.d_out, self.d_in))
        root = (1.0 + p - q).square() - 4.0 * p
        a = ((1.0 + p - q) - root.clamp_min(0.0).sqrt()) / 2.0
        b = (a - (p - q)).clamp(1e-300, 1.0)
        a = a.clamp(1e-300, 1.0)
        lost = self.energy * (1.0 - (1.0 - a) * (1.0 - b))
        bits = -0.5 * (self.d_out * a.log2() + self.d_in * b.log2())
        pays = (root >= 0.0) & (lost + slope * bits < self.energy)
        error = torch.where(pays, lost, self.energy).sum() / self.energy.sum()
        return sqrt(float(error)), float(torch.where(pays, bits, 0.0).sum()) / self.parameters


def bits_at(spectra: Sequence[Spectrum], error: float) -> float:
    """Mean bits per parameter with every adapter brought to ``error`` at its own slope."""
    return sum(_search([spectrum], error) for spectrum in spectra) / len(spectra)


def bits_at_one_slope(spectra: Sequence[Spectrum], error: float) -> float:
    """Mean bits per parameter where one slope for all gives this mean relative error: the convention of one absolute step."""
    return _search(spectra, error)


def _search(spectra: Sequence[Spectrum], error: float) -> float:
    """Bits where the mean error at one slope is ``error``, by bisection; the last jump is bridged by time sharing."""
    low, high = -200.0, 50.0  # log λ
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean(spectra, middle)[0] <= error else (low, middle)
    (e0, r0), (e1, r1) = _mean(spectra, low), _mean(spectra, high)
    share = 0.0 if e1 <= e0 else (error**2 - e0**2) / (e1**2 - e0**2)
    return r0 + min(1.0, max(0.0, share)) * (r1 - r0)


def _mean(spectra: Sequence[Spectrum], log_slope: float) -> tuple[float, float]:
    found = [spectrum.at_slope(torch.tensor(log_slope, dtype=torch.float64).exp().item()) for spectrum in spectra]
    return sum(e for e, _ in found) / len(found), sum(r for _, r in found) / len(found)
