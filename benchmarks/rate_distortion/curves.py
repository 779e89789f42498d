"""Curves of bits over error: reading between points, BD-rate, and who is below whom.

BD-rate of ours against a rival: exp(∫ (ln R_ours(e) − ln R_rival(e)) d ln e / ∫ d ln e) − 1 over the errors that both curves
cover, R being bits per parameter at the mean relative error e, linear in ln R over ln e between the measured points. −0.5
means half the bits at equal error. A curve consists of those of its points that no other of its points beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from benchmarks.rate_distortion.points import OURS, Point

LEAST_ERROR = 0.02  # rivals are compared down to this error
_SAMPLES = 400


@dataclass(frozen=True, slots=True)
class Unbeaten:
    """A rival's point that is not above ours; ``ours`` is None where our curve does not reach that error."""

    rival: Point
    ours: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (error, bits) with falling bits over rising error."""

    errors: tuple[float, ...]
    bits: tuple[float, ...]

    @classmethod
    def of(cls, points: Iterable[Point]) -> Curve:
        """The points that no other one beats; errors of 1 and more are worth nothing."""
        kept: list[tuple[float, float]] = []
        for point in sorted(points, key=lambda p: (p.bits, p.error_mean)):
            if 0.0 < point.error_mean < min(1.0, kept[-1][0] if kept else 1.0):
                kept.append((point.error_mean, point.bits))
        kept.reverse()
        return cls(tuple(e for e, _ in kept), tuple(r for _, r in kept))

    def at(self, error: float) -> float | None:
        """Bits at ``error``; beyond the largest error those of the smallest point, below the smallest error None."""
        if not self.errors or error < self.errors[0]:
            return None
        return exp(float(np.interp(log(error), np.log(self.errors), np.log(self.bits))))


def bd_rate(ours: Curve, rival: Curve) -> float | None:
    """The mean saving at equal error, negative where ours is smaller; None where the curves share no range of errors."""
    if len(ours.errors) < 2 or len(rival.errors) < 2:
        return None
    low, high = max(ours.errors[0], rival.errors[0]), min(ours.errors[-1], rival.errors[-1])
    if low >= high:
        return None
    grid = np.linspace(log(low), log(high), _SAMPLES)
    first, second = (np.interp(grid, np.log(c.errors), np.log(c.bits)) for c in (ours, rival))
    return float(np.exp(np.trapezoid(first - second, grid) / (grid[-1] - grid[0])) - 1.0)


def ours(points: Sequence[Point]) -> Curve:
    """Our curve on one collection: every adapter alone, and through the bank where that was measured and is smaller."""
    return Curve.of(point for point in points if point.method in OURS)


def not_below(points: Sequence[Point]) -> list[Unbeaten]:
    """The points of rivals with an error from 0.02 to 1 at which ours does not cost less."""
    mine, found = ours(points), []
    for point in points:
        if point.method in OURS or not LEAST_ERROR <= point.error_mean < 1.0:
            continue
        at = mine.at(point.error_mean)
        if at is None or at >= point.bits:
            found.append(Unbeaten(point, at))
    return found


def against_all(points: Sequence[Point]) -> dict[str, float]:
    """BD-rate of ours against every rival, and under ``any`` against the best of them at every error."""
    mine = ours(points)
    rivals = [point for point in points if point.method not in OURS]
    methods = sorted({point.method for point in rivals})
    found = {method: bd_rate(mine, Curve.of(p for p in rivals if p.method == method)) for method in methods}
    found["any"] = bd_rate(mine, Curve.of(rivals))
    return {method: rate for method, rate in found.items() if rate is not None}


def best_rival(rates: dict[str, float]) -> tuple[str, float] | None:
    """The single rival that ours saves least against."""
    single = {method: rate for method, rate in rates.items() if method != "any"}
    return max(single.items(), key=lambda item: item[1]) if single else None
