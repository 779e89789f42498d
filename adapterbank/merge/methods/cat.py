"""The exact sum: all factors side by side, rank Σ r_i."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces


def cat(inputs: Inputs) -> Pieces:
    """``B = [w_1 s_1 B_1 | …]``, ``A = [A_1; …]``: Σ w_i ΔW_i without any loss; an explicit rank cuts it like ``svd``."""
    for stack in inputs:
        yield Piece(stack.module, stack.combine())


METHOD = Method(
    name="cat",
    merge=cat,
    kind="linear",
    summary="exact sum: factors side by side, the ranks add up",
    formula="M = Σ w·ΔW",
    source="PEFT add_weighted_adapter, combination_type cat",
    laws={"itself": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    keeps_rank=True,
)
