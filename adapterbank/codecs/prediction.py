"""What another coded adapter tells about a module, before anything of it is coded.

- ``none``: nothing; the module's own components are coded.
- ``difference``: ΔW less the reference's ΔŴ is coded: for versions of one adapter. The decoder puts both side by side along the
  rank axis, so that the result is exactly the sum.
- ``rows``: every right vector y is a combination of the reference's right vectors, whose coefficients are coded, and a rest:
for adapters that began with the same ``lora_A``. Integers only, so that every machine has the same rows.

A reference is itself coded without one, so that a form needs at most two objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterbank.codecs.classes import CLASSES, inverse
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.tables import FINE
from adapterbank.lora.adapter import Factors

NONE, DIFFERENCE, ROWS = "none", "difference", "rows"
KINDS = (NONE, DIFFERENCE, ROWS)
_SHIFT = 32  # bits after the point of a multiplier

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
class Subject:
    """What is coded of one module: the spectrum of ΔW or of a difference, and rows for its right vectors or None."""

    spectrum: Spectrum
    kind: str = NONE
    rows: Rows | None = None


def difference(own: Factors, reference: Factors) -> Factors:
    """Factors of ΔW − ΔŴ_reference, of the rank of both together."""
    B = torch.cat([own.B.double() * own.scaling, reference.B.double() * -reference.scaling], dim=1)
    return Factors(torch.cat([own.A.double(), reference.A.double()]), B)


def side_by_side(first: Factors, second: Factors) -> Factors:
    """Factors whose ΔW is the sum of two of scaling 1."""
    return Factors(torch.cat([first.A, second.A]), torch.cat([first.B, second.B], dim=1), 1.0, first.kind, first.kernel)
