"""Weighted average of the deltas ("model soups", arXiv 2203.05482), without cross terms."""

from __future__ import annotations

from adapterbank.errors import UsageError
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces


def average(inputs: Inputs) -> Pieces:
    """``M = Σ w_i ΔW_i / Σ w_i``, in every module by the sum of all weights: an absent module pulls the mean towards zero.

    Raises UsageError if the weights sum to zero.
    """
    total = sum(inputs.weights)
    if total == 0.0:
        raise UsageError(f"average: the weights {list(inputs.weights)} sum to 0", hint="use task_arithmetic to subtract")
    for stack in inputs:
        yield Piece(stack.module, stack.combine([weight / total for weight in inputs.weights]))


METHOD = Method(
    name="average",
    merge=average,
    kind="linear",
    summary="weighted average of the deltas",
    formula="M = Σ w·ΔW / Σ w",
    source="arXiv 2203.05482",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
