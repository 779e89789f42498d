"""TIES-Merging (arXiv 2306.01708): trim small entries, elect a sign, average those that agree."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from adapterbank.merge.consensus import majority_sign, sign_consensus
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Density, Hint, Scale
from adapterbank.merge.sparsify import model_thresholds, module_thresholds, trim

Scope = Annotated[Literal["module", "model"], Hint("what the trim and the majority sign look at; the authors' code: model")]
Normalize = Annotated[
    Literal["count", "weights"],
    Hint("the mean divides by the count of agreeing entries (the authors) or by the sum of their |w|"),
]


def ties(
    inputs: Inputs, *, density: Density = 0.2, scope: Scope = "module", normalize: Normalize = "count", scale: Scale = 1.0
) -> Pieces:
    """Per adapter keep the ``max(1, ⌊density·N⌋)`` largest of the N entries of ΔW, with all that are equally large.

    Elect per entry the sign of Σ w·ΔW of what was kept; where it cancels exactly, the majority sign; take the mean of the
    weighted entries of that sign, times λ. If even the majority is a draw, such an entry is 0.
    """
    whole = model_thresholds(inputs, density) if scope == "model" else None
    trims = None if whole is None else lambda stack: trim([whole[i] for i in stack.members])
    majority = cache(lambda: majority_sign((stack, trims(stack), stack.weights) for stack in inputs)) if trims else None
    for stack in inputs:
        trimmed = trims(stack) if trims else trim(module_thresholds(stack, density))
        merged = sign_consensus(stack, trimmed, stack.weights, normalize=normalize, majority=majority)
        yield Piece(stack.module, merged.mul_(scale))


METHOD = Method(
    name="ties",
    merge=ties,
    kind="elementwise",
    summary="trim small entries, elect signs, average what agrees",
    formula="M = λ · mean{w·τ : sign(w·τ) = sign(Σ w·τ)}, τ = top-density(ΔW)",
    source="arXiv 2306.01708",
    laws={"itself": {"density": 1.0}, "copies": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
