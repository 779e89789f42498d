"""DARE (arXiv 2311.03099) before TIES' sign election: drop entries at random, rescale, average what agrees."""

from __future__ import annotations

from torch import Tensor

from adapterbank.merge.consensus import sign_consensus
from adapterbank.merge.core import scaled
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.methods.ties import Normalize
from adapterbank.merge.options import Density, Scale, Space
from adapterbank.merge.spaces import elementwise
from adapterbank.merge.sparsify import drop
from adapterbank.merge.stack import Stack


def dare_ties(
    inputs: Inputs, *, density: Density = 0.5, normalize: Normalize = "count", scale: Scale = 1.0, space: Space = "full"
) -> Pieces:
    """``τ_i = m_i∘ΔW_i / density``, then TIES' election and disjoint mean, times λ; nothing is trimmed by size."""

    def rule(part: Stack) -> Tensor:
        return sign_consensus(part, drop(part, density), part.weights, normalize=normalize)

    for stack in inputs:
        yield Piece(stack.module, scaled(elementwise(stack, space, rule), scale), near=stack.combine())


METHOD = Method(
    name="dare_ties",
    merge=dare_ties,
    kind="elementwise",
    summary="drop entries at random, rescale, elect signs, average what agrees",
    formula="M = λ · mean{w·τ : sign(w·τ) = sign(Σ w·τ)}, τ = m∘ΔW / density",
    source="arXiv 2311.03099, 2306.01708",
    laws={"itself": {"density": 1.0}, "copies": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
