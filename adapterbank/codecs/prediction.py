"""What other coded adapters tell about a module, before anything of it is coded.

- ``none``: nothing; the module's own components are coded.
- ``refined``: components of the last reference are kept, and the rests of both their vectors are coded; new ones may follow.
  For versions of one adapter.
- ``rows``: every right vector y is a combination of the references' right vectors, whose coefficients are coded, and a rest:
  for adapters that began with the same ``lora_A``.

Integers only, so that every machine predicts the same. A reference may itself need one, which then is named before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterbank.codecs.classes import CLASSES, GAINS, inverse
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.tables import FINE

NONE, REFINED, ROWS = "none", "refined", "rows"
KINDS = (NONE, REFINED, ROWS)
FURTHEST = 7 * GAINS  # of a gain from the reference's: so far apart are the steps of two versions at most
_SHIFT = 32  # bits after the point of a row's multiplier
_SCALED = 24  # and of a component's

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Right vectors of a reference: ``points [l, d_in]`` in its own Δ/64, and ``multipliers [l]``, 2³² over their length."""

    points: Ints
    multipliers: Ints

    @classmethod
    def of(cls, points: Ints, gains: Ints) -> Rows:
        """The rows whose components have these gain indices: y has the length 2^(g/24) in Δ."""
        return cls(points, np.array([inverse(int(gain), _SHIFT) for gain in gains], np.int64))

    @property
    def unit(self) -> Tensor:
        """The rows as the encoder sees them, of about unit length ``[l, d_in]`` float32."""
        return torch.from_numpy(self.points * (self.multipliers[:, None] / (2.0**_SHIFT * FINE))).float()

    def combined(self, coefficients: Ints, rest_classes: Ints) -> Ints:
        """Σ_l c_l·row_l ``[L, d_in]`` in Δ/64, each row rounded once, to the nearest; ``coefficients [L, l]`` are in their own
        Δ/64, see :func:`coarseness`."""
        coefficients = coefficients << coarseness(rest_classes)[:, None]
        total = np.zeros((len(coefficients), self.points.shape[1]), np.int64)
        half = 1 << (_SHIFT - 1)
        for row, multiplier, own in zip(self.points, self.multipliers, coefficients.T, strict=True):
            scaled = (row * multiplier + (FINE >> 1)) // FINE  # of unit length, 2⁻³² to one
            total += (own[:, None] * scaled + half) >> _SHIFT
        return total


def coarseness(rest_classes: Ints) -> Ints:
    """How often the step of coefficients is doubled, by the classes of the rests: to about 2σ of a rest's entries.

    What is lost of a coefficient is coded again with the rest, so it is worth so many bits only as take its error to σ².
    """
    return np.maximum((rest_classes + CLASSES // 2) // CLASSES + 1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The components of a reference: points ``x [n, d_out]`` and ``y [n, d_in]`` in its own Δ/64, gain indices ``[n]``."""

    x: Ints
    y: Ints
    gains: Ints

    def scaled(self, index: Ints, gains: Ints, left: bool) -> Ints:
        """x if ``left``, else y, of those of ``index [L]`` as they are with the gain indices ``gains [L]``: times
        2^((gain − own) / 24), in Δ/64, rounded once to the nearest."""
        moved = zip(self.gains[index].tolist(), gains.tolist(), strict=True)
        factors = np.array([inverse(own - gain, _SCALED) for own, gain in moved], np.int64)[:, None]
        return ((self.x if left else self.y)[index] * factors + (1 << (_SCALED - 1))) >> _SCALED


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What the encoder knows of a reference to refine: its ``components``; by least squares their ``weights [n]`` in ΔW, and
    the squared norms ``rests [2, n]`` of what x and y then miss; and the spectrum of what is beyond them."""

    components: Components
    weights: Tensor
    rests: Tensor
    beyond: Spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is coded of one module: the spectrum of ΔW, and what is known of it, which says the kind: nothing, rows for its
    right vectors, or components to refine."""

    spectrum: Spectrum
    known: Rows | Known | None = None

    @property
    def kind(self) -> str:
        return NONE if self.known is None else ROWS if isinstance(self.known, Rows) else REFINED
