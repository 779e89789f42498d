"""The sum, cut to a rank: the best LoRA of that rank in the Frobenius norm."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces


def svd(inputs: Inputs) -> Pieces:
    """``M = Σ w_i ΔW_i``, then the engine's cut to rank k (Eckart-Young)."""
    for stack in inputs:
        yield Piece(stack.module, stack.combine())


METHOD = Method(
    name="svd",
    merge=svd,
    kind="linear",
    summary="sum of the deltas, cut to a rank by SVD",
    formula="M = Σ w·ΔW, cut to rank k",
    source="PEFT add_weighted_adapter, combination_type svd (there the scaling enters twice)",
    laws={"itself": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
