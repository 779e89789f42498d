"""Which components of a module are kept, and what their vectors shall be: all in units of the step Δ, through r×r Gram
matrices.

The decoder has ΔŴ = Δ·Σ_k x_k·y_kᵀ / G_k with G = 2^(g/24), x and y being points of the quantizer. At high rates x = ŝ·u/Δ. A
component whose sides have the relative errors a and b has the error s²·(1 − (1 − a)(1 − b)), which is not convex: below
0.9 bits per entry on each side it is better left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.classes import GAINS
from adapterbank.codecs.quantize import SLOPE
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.tables import SILENT

DISTORTION = SLOPE / 1.3862943611198906  # of a coded entry, in Δ², where λ is its slope: D = λ/(2·ln 2)
_RIDGE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Vectors of the kept components ``[L, d]``: the quantizer's signed integers ``k``, which quantizer ``q`` each is of, their
    ``classes [L]`` and modelled ``bits [L]``; and the ``points`` in Δ that the decoder will have, a prediction included."""

    k: Tensor
    q: Tensor
    classes: Tensor
    bits: Tensor
    points: Tensor

    @classmethod
    def unset(cls) -> Side:
        """What stands there until it is coded."""
        return cls(*(torch.zeros(0) for _ in range(5)))

    def silent(self, where: Tensor) -> Side:
        """Without samples ``where [L]`` is true: their points are 0."""
        k, q, bits, points = (v.clone() for v in (self.k, self.q, self.bits, self.points))
        for values in (k, q, bits, points):
            values[where] = 0
        return Side(k, q, torch.where(where, SILENT, self.classes), bits, points)

    def only(self, keep: Tensor) -> Side:
        """Those for which ``keep [L]`` is true."""
        return Side(self.k[keep], self.q[keep], self.classes[keep], self.bits[keep], self.points[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The kept components of a module: their indices in its spectrum (or as in :func:`refinement.started`), gain indices, their
    vectors x ``[L, d_out]`` and y ``[L, d_in]``, and with rows to predict y from, the ``coefficients`` ``[L, l]``."""

    index: Tensor
    gains: Tensor
    x: Side
    y: Side
    coefficients: Side | None = None

    def only(self, keep: Tensor) -> Kept:
        """Those for which ``keep [L]`` is true."""
        few = None if self.coefficients is None else self.coefficients.only(keep)
        return Kept(self.index[keep], self.gains[keep], self.x.only(keep), self.y.only(keep), few)

    @property
    def G(self) -> Tensor:
        """2^(g/24) ``[L]`` float64."""
        return torch.exp2(self.gains.double() / GAINS)

    @property
    def bits(self) -> Tensor:
        """Modelled bits of each component ``[L]`` float64."""
        own = self.x.bits.double() + self.y.bits.double()
        return own if self.coefficients is None else own + self.coefficients.bits.double()


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """Inner products of the kept vectors with the singular vectors ``[r, L]`` and with each other ``[L, L]``, float64."""

    Ux: Tensor
    Vy: Tensor
    xx: Tensor
    yy: Tensor

    @classmethod
    def of(cls, spectrum: Spectrum, kept: Kept, dtype: torch.dtype = torch.float32) -> Grams:
        """Computed in ``dtype``: float64 where a small difference of large sums is wanted."""
        U, V, x, y = (matrix.to(dtype) for matrix in (spectrum.U, spectrum.V, kept.x.points, kept.y.points))
        return cls(*(product.double() for product in (U @ x.T, V @ y.T, x @ x.T, y @ y.T)))


def worth_coding(spectrum: Spectrum, step: float) -> Tensor:
    """Indices of the components that an ideal Gaussian code of this slope would keep; the others are lost to any."""
    kept, bits = _ideal(spectrum, step)
    return torch.nonzero(kept > SLOPE * bits).flatten()


def ideal(spectrum: Spectrum, step: float) -> tuple[float, float]:
    """Squared error and bits of an ideal Gaussian code of this slope: what a step is about to give, before anything is
    coded.
    """
    kept, bits = _ideal(spectrum, step)
    worth = kept > SLOPE * bits
    return spectrum.energy - step**2 * float(kept[worth].sum()), float(bits[worth].sum())


def _ideal(spectrum: Spectrum, step: float) -> tuple[Tensor, Tensor]:
    """For each component the squared norm in Δ² that it keeps, and its bits ``[r]``."""
    kept = (spectrum.s / step).square()
    size, bits = kept.clone(), torch.zeros_like(kept)
    for d in (spectrum.U.shape[1], spectrum.V.shape[1]):
        error = (DISTORTION * d / size).clamp(max=1.0)
        kept, bits = kept * (1.0 - error), bits - 0.5 * d * error.log2()
    return kept, bits


def first_gains(spectrum: Spectrum, index: Tensor, step: float) -> Tensor:
    """round(24·log₂(s/Δ)) ``[L]``."""
    return torch.round(GAINS * torch.log2(spectrum.s[index] / step)).long()


def first_targets(spectrum: Spectrum, index: Tensor, gains: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """What x and y shall be before anything is coded: √(s·ŝ)·u and √(s·ŝ)·v in Δ, so that x·yᵀ/G is the component."""
    size = (spectrum.s[index] / step * torch.exp2(gains / GAINS)).sqrt().float().unsqueeze(1)
    return size * spectrum.U[index], size * spectrum.V[index]


def closed_targets(spectrum: Spectrum, kept: Kept, grams: Grams, left: bool, step: float) -> tuple[Tensor, Tensor]:
    """What one side shall be (x if ``left``, else y) given the points of the other, by least squares ``[L, d]``, and the
    weights ``[L]``.

    Noise of one side that lies in the span of the other is compensated here: x = G·(YYᵀ)⁻¹·Y·ΔWᵀ/Δ.
    """
    cross, gram, own = (grams.Vy, grams.yy, spectrum.U) if left else (grams.Ux, grams.xx, spectrum.V)
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    mix = torch.linalg.solve(gram + ridge, cross.T * (spectrum.s / step))
    return (kept.G.unsqueeze(1) * mix).float() @ own, (gram.diagonal() / kept.G.square()).float()


def best_gains(spectrum: Spectrum, kept: Kept, grams: Grams, step: float) -> Tensor:
    """The gain indices ``[L]`` of the least squares weights of the kept pairs; where that is no positive one, as before."""
    system = grams.xx * grams.yy
    ridge = _RIDGE * system.diagonal().mean() * torch.eye(len(system), dtype=system.dtype)
    weights = torch.linalg.solve(system + ridge, _overlap(spectrum, grams, step))
    found = torch.round(-GAINS * torch.log2(weights.clamp(min=1e-300))).long()
    return torch.where(weights * kept.G > 0.25, found, kept.gains)


def paying(spectrum: Spectrum, kept: Kept, grams: Grams, step: float) -> Tensor:
    """Which kept components lower error + λ·bits ``[L]``."""
    size = grams.xx.diagonal() * grams.yy.diagonal() / kept.G.square()
    own = _overlap(spectrum, grams, step) / kept.G
    return size + SLOPE * kept.bits < 2.0 * own


def squared_error(spectrum: Spectrum, kept: Kept, step: float) -> float:
    """‖ΔW − ΔŴ‖²_F, good to 10⁻⁸ of ‖ΔW‖²_F."""
    grams = Grams.of(spectrum, kept, torch.float64)
    weights = 1.0 / kept.G
    size = weights @ (grams.xx * grams.yy) @ weights
    return spectrum.energy + step**2 * float(size - 2.0 * weights @ _overlap(spectrum, grams, step))


def _overlap(spectrum: Spectrum, grams: Grams, step: float) -> Tensor:
    """x_kᵀ·ΔW·y_k / Δ ``[L]``."""
    return ((spectrum.s / step).unsqueeze(1) * grams.Ux * grams.Vy).sum(dim=0)
