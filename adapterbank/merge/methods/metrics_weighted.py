"""Weighted averages whose weights were chosen by a metric: of all adapters, or of those that help.

- ``metrics_weighted``: checkpoints of one run, weighted by a metric (arXiv 2504.18580).
- ``greedy_soup``: those adapters that do not make a held-out metric worse (arXiv 2203.05482, recipe 1).
"""

from __future__ import annotations

from typing import Annotated

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.metrics import Form
from adapterbank.merge.options import Hint


def metrics_weighted(
    inputs: Inputs,
    *,
    form: Annotated[Form, Hint("how a metric becomes a weight")] = "penalty",
    beta: Annotated[float, Hint("β: 0 gives equal weights, large values the best adapter alone", at_most=1e6)] = 1.0,
    larger_is_better: Annotated[bool, Hint("the metric is a score and not a loss")] = False,
) -> Pieces:
    """``M = Σ w_i ΔW_i / Σ w_i`` with the weights that :func:`~adapterbank.merge.metrics.metric_weights` makes of metrics.

    power: w ∝ m^±β; softmax: w ∝ exp(−β·gap/σ); penalty: w ∝ 1 / (1 + β·gap/σ), gap the distance to the best metric, σ their
    standard deviation. The formula of the paper is not public; these are named for what they do. A recipe holds the weights
    themselves, so that a metric that is written anew changes no merge, beside the options from which they were computed.
    """
    return _average(inputs, "metrics_weighted")


def greedy_soup(
    inputs: Inputs,
    *,
    larger_is_better: Annotated[bool, Hint("the metric that orders the adapters is a score and not a loss")] = True,
) -> Pieces:
    """The uniform average of the adapters that :func:`~adapterbank.merge.greedy.greedy` kept: their weights are 1, others' 0.

    The selection needs an evaluation and happens before the merge; a recipe holds its outcome. With other weights this is
    ``average``.
    """
    return _average(inputs, "greedy_soup")


def _average(inputs: Inputs, method: str) -> Pieces:
    for stack in inputs:
        yield Piece(stack.module, stack.combine(stack.shares(method)))


METRICS_WEIGHTED = Method(
    name="metrics_weighted",
    merge=metrics_weighted,
    kind="linear",
    summary="average weighted by a metric of the registry",
    formula="M = Σ w(metric)·ΔW / Σ w(metric)",
    source="arXiv 2504.18580 (its formula is not public: own forms)",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    needs=("metric",),
)
GREEDY_SOUP = Method(
    name="greedy_soup",
    merge=greedy_soup,
    kind="linear",
    summary="average of those that do not make a held-out metric worse",
    formula="M = mean{ΔW kept}",
    source="arXiv 2203.05482",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    needs=("metric", "evaluation"),
)
