"""Weights from metrics: how much each adapter of a merge counts, from one number that was measured for it.

Metrics-weighted averaging (arXiv 2504.18580) averages the checkpoints of one run by their loss, with a penalty factor as its
only parameter. The paper's formula is in no public text, so the forms here are named for what they do and are not claimed to be
the paper's. In each of them β = 0 gives equal weights and β → ∞ the best adapter alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite
from statistics import pstdev
from typing import Literal

from adapterbank.errors import UsageError

Form = Literal["power", "softmax", "penalty"]


def metric_weights(metrics: Sequence[float], *, form: Form, beta: float, larger_is_better: bool) -> tuple[float, ...]:
    """One weight per metric; they sum to 1, and a better metric never weighs less (β ≥ 0).

    - ``power``: w ∝ m^β, or m^−β if smaller is better; the scale of the metric does not matter. Only for metrics above 0.
    - ``softmax``: w ∝ exp(−β·gap/σ), gap the distance to the best metric and σ their standard deviation.
    - ``penalty``: w ∝ 1 / (1 + β·gap/σ): a worse adapter is never as good as left out.

    The unit of the metric does not matter in any of them, its zero not in the last two. Equal metrics get equal weights.
    Raises UsageError for no metrics, one that is not finite, a negative β, and for ``power`` a metric that is not above 0.
    """
    _check(metrics, form, beta)
    best = max(metrics) if larger_is_better else min(metrics)
    if form == "power":
        raw = [(m / best if larger_is_better else best / m) ** beta for m in metrics]
    else:
        spread = pstdev(metrics) or 1.0
        gaps = [beta * abs(best - m) / spread for m in metrics]
        raw = [exp(-gap) if form == "softmax" else 1.0 / (1.0 + gap) for gap in gaps]
    total = sum(raw)
    return tuple(weight / total for weight in raw)


def _check(metrics: Sequence[float], form: Form, beta: float) -> None:
    if not metrics:
        raise UsageError("no metrics to weigh by: expected one for each adapter")
    wrong = [m for m in metrics if not isfinite(m)]
    if wrong:
        raise UsageError(f"metrics must be finite numbers, got {wrong[0]}")
    if beta < 0.0:
        raise UsageError(f"beta: got {beta}, expected at least 0", hint="larger_is_better says which way the metric goes")
    if form == "power" and min(metrics) <= 0.0:
        raise UsageError(f"form power needs metrics above 0, got {min(metrics)}", hint="softmax and penalty take any")
