"""Task Arithmetic (arXiv 2212.04089, eq. 1 with task vectors ΔW): add, or with negative weights subtract, skills."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Scale


def task_arithmetic(inputs: Inputs, *, scale: Scale = 1.0) -> Pieces:
    """``M = λ Σ w_i ΔW_i``; the authors use λ = 0.3 for many tasks at once, here the weights alone count by default."""
    for stack in inputs:
        yield Piece(stack.module, stack.combine([scale * weight for weight in stack.weights]))


METHOD = Method(
    name="task_arithmetic",
    merge=task_arithmetic,
    kind="linear",
    summary="scaled sum of the deltas",
    formula="M = λ Σ w·ΔW",
    source="arXiv 2212.04089",
    laws={"itself": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
