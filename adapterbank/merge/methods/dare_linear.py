"""DARE (arXiv 2311.03099) before Task Arithmetic: drop entries at random, rescale the rest, add."""

from __future__ import annotations

from adapterbank.merge.consensus import total
from adapterbank.merge.elementwise import stream
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Density, Scale
from adapterbank.merge.sparsify import drop


def dare_linear(inputs: Inputs, *, density: Density = 0.5, scale: Scale = 1.0) -> Pieces:
    """``M = λ Σ w_i · m_i∘ΔW_i / density`` with m_i ~ Bernoulli(density): its expectation is task_arithmetic's M."""
    for stack in inputs:
        merged = stream(stack, drop(stack, density), stack.weights, total)
        yield Piece(stack.module, merged.mul_(scale))


METHOD = Method(
    name="dare_linear",
    merge=dare_linear,
    kind="elementwise",
    summary="drop entries at random, rescale, add",
    formula="M = λ Σ w·m∘ΔW / density, m ~ Bernoulli(density)",
    source="arXiv 2311.03099",
    laws={"itself": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
