"""Weighted average of the deltas ("model soups", arXiv 2203.05482), without cross terms."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces


def average(inputs: Inputs) -> Pieces:
    """``M = Σ w_i ΔW_i / Σ w_i``: an absent module that counts as zero pulls the mean towards zero.

    Raises UsageError if the weights of a module sum to zero.
    """
    for stack in inputs:
        yield Piece(stack.module, stack.combine(stack.shares("average")))


METHOD = Method(
    name="average",
    merge=average,
    kind="linear",
    summary="weighted average of the deltas",
    formula="M = Σ w·ΔW / Σ w",
    source="arXiv 2203.05482",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
