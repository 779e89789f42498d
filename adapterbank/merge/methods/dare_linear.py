"""DARE (arXiv 2311.03099) before Task Arithmetic: drop entries at random, rescale the rest, add."""

from __future__ import annotations

from torch import Tensor

from adapterbank.merge.consensus import total
from adapterbank.merge.core import scaled
from adapterbank.merge.elementwise import stream
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Density, Scale, Space
from adapterbank.merge.spaces import elementwise
from adapterbank.merge.sparsify import drop
from adapterbank.merge.stack import Stack


def dare_linear(inputs: Inputs, *, density: Density = 0.5, scale: Scale = 1.0, space: Space = "full") -> Pieces:
    """``M = λ Σ w_i · m_i∘ΔW_i / density`` with m_i ~ Bernoulli(density): its expectation is task_arithmetic's M."""

    def rule(part: Stack) -> Tensor:
        return stream(part, drop(part, density), part.weights, total)

    for stack in inputs:
        yield Piece(stack.module, scaled(elementwise(stack, space, rule), scale), near=stack.combine())


METHOD = Method(
    name="dare_linear",
    merge=dare_linear,
    kind="elementwise",
    summary="drop entries at random, rescale, add",
    formula="M = λ Σ w·m∘ΔW / density, m ~ Bernoulli(density)",
    source="arXiv 2311.03099",
    laws={"itself": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
