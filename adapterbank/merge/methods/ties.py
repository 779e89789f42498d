"""TIES-Merging (arXiv 2306.01708): trim small entries, elect a sign, average those that agree."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal

from torch import Tensor

from adapterbank.merge.consensus import majority_sign, sign_consensus
from adapterbank.merge.core import scaled
from adapterbank.merge.elementwise import Sparsify
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Density, Hint, Scale, Space
from adapterbank.merge.spaces import elementwise, space_of
from adapterbank.merge.sparsify import thresholds, trim
from adapterbank.merge.stack import Stack

Scope = Annotated[Literal["module", "model"], Hint("what the trim and the majority sign look at; the authors' code: model")]
Normalize = Annotated[
    Literal["count", "weights"],
    Hint("the mean divides by the count of agreeing entries (the authors) or by the sum of their |w|"),
]


def ties(
    inputs: Inputs,
    *,
    density: Density = 0.2,
    scope: Scope = "module",
    normalize: Normalize = "count",
    scale: Scale = 1.0,
    space: Space = "full",
) -> Pieces:
    """Per adapter keep the ``max(1, ⌊density·N⌋)`` largest of the N entries of ΔW, with all that are equally large.

    Elect per entry the sign of Σ w·ΔW of what was kept; where it cancels exactly, the majority sign; take the mean of the
    weighted entries of that sign, times λ. If even the majority is a draw, such an entry is 0.
    """

    def parts() -> Iterator[Stack]:
        return (part for stack in inputs for part in space_of(stack, space).parts)

    whole = thresholds(parts, density) if scope == "model" else None

    def kept(part: Stack) -> Sparsify:
        sizes = whole or thresholds(lambda: [part], density)
        return trim([sizes[member] for member in part.members])

    majority = cache(lambda: majority_sign((part, kept(part), part.weights) for part in parts())) if whole else None

    def rule(part: Stack) -> Tensor:
        return sign_consensus(part, kept(part), part.weights, normalize=normalize, majority=majority)

    for stack in inputs:
        yield Piece(stack.module, scaled(elementwise(stack, space, rule), scale), near=stack.combine())


METHOD = Method(
    name="ties",
    merge=ties,
    kind="elementwise",
    summary="trim small entries, elect signs, average what agrees",
    formula="M = λ · mean{w·τ : sign(w·τ) = sign(Σ w·τ)}, τ = top-density(ΔW)",
    source="arXiv 2306.01708",
    laws={"itself": {"density": 1.0}, "copies": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
