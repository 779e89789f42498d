"""How far the bytes are from the Shannon bound of Gaussian singular vectors."""

from __future__ import annotations

from math import log, log2, sqrt

import pytest

from adapterbank.codecs.coder import encode
from adapterbank.codecs.spectrum import spectra
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter

from .made import adapter

GAUSSIAN = adapter({f"layer.{i}": (512, 448, 8) for i in range(6)}, fall=0.2)


@pytest.mark.parametrize("max_error", [0.5, 0.2, 0.05])
def test_within_15_per_cent_of_the_bound_every_byte_counted(max_error: float):
    coded = encode(GAUSSIAN, Target(max_error=max_error), effort=0)
    bound = shannon(GAUSSIAN, coded.error.total)
    assert bound < 8 * len(coded.data) < 1.15 * bound


def shannon(adapter: Adapter, error: float) -> float:
    """Bits at least: min Σ_k ½·d_out·log₂(1/a_k) + ½·d_in·log₂(1/b_k), where Σ_k s_k²·(1 − (1 − a_k)·(1 − b_k)) is
    error²·Σ s_k² over all distortions a_k and b_k of the two sides, relative and at most 1. Bisection on the slope λ."""
    parts = [(float(s) ** 2, own.U.shape[1], own.V.shape[1]) for own in spectra(adapter) for s in own.s]
    allowed = error**2 * sum(size for size, _, _ in parts)
    low, high = 1e-12, 1e12
    for _ in range(200):
        slope = sqrt(low * high)
        found = [_cheapest(size, d_out, d_in, slope) for size, d_out, d_in in parts]
        low, high = (low, slope) if sum(loss for loss, _ in found) > allowed else (slope, high)
    return sum(bits for _, bits in found)


def _cheapest(size: float, d_out: int, d_in: int, slope: float) -> tuple[float, float]:
    """Squared error and bits of one component that minimise error + slope·bits: a·(1 − b) = slope·d_out / (2·ln 2·s²), likewise
    b·(1 − a) with d_in, or nothing is kept."""
    out, into = (slope * d / (2 * log(2) * size) for d in (d_out, d_in))
    middle = (1 + out - into) / 2
    if middle**2 <= out:
        return size, 0.0
    a = middle - sqrt(middle**2 - out)
    b = a + into - out
    if not (0 < a < 1 and 0 < b < 1):
        return size, 0.0
    loss, bits = size * (1 - (1 - a) * (1 - b)), -0.5 * (d_out * log2(a) + d_in * log2(b))
    return (loss, bits) if loss + slope * bits < size else (size, 0.0)
