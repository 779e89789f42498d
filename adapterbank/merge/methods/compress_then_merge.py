"""Compress-then-Merge (arXiv 2606.03723): first the best shared subspaces of rank r, then any rule on the r × r cores."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from adapterbank.merge.core import LowRank
from adapterbank.merge.core_rules import RULES, Cores
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.participants import nothing, participants, weighted
from adapterbank.merge.small_core import small_core
from adapterbank.merge.streams import stream_key
from adapterbank.merge.tucker import shared_subspaces

Rule = Annotated[Literal["ties", "sum", "dare_ties", "tsv", "iso"], Hint("what merges the r × r cores")]
LoraRank = Annotated[int, Hint("r, the rank of the result; 0: the largest input rank of the module", at_least=0)]
Beta = Annotated[
    float, Hint("β: 1 lets large deltas shape the subspaces as they are, 0 gives all the same norm", at_least=0.0, at_most=1.0)
]
Scale = Annotated[float, Hint("λ: multiplies the merged delta (the authors' scaling_coeffs)")]
Density = Annotated[
    float, Hint("rules ties and dare_ties: share of a core's entries that is kept (their topK)", above=0.0, at_most=1.0)
]
DareDensity = Annotated[float, Hint("rule dare_ties: probability that DARE keeps an entry", above=0.0, at_most=1.0)]


def compress_then_merge(
    inputs: Inputs,
    *,
    rule: Rule = "ties",
    lora_rank: LoraRank = 0,
    beta: Beta = 0.25,
    scale: Scale = 0.75,
    density: Density = 0.25,
    dare_density: DareDensity = 0.7,
) -> Pieces:
    """``M = λ U·rule(Uᵀ(w_i ΔW_i)V)·Vᵀ``: rank r by construction, nothing is cut afterwards.

    U and V come from a partial Tucker decomposition (HOOI) of the deltas, each rescaled to ``β·norm + (1 − β)·mean norm``; the
    rule sees the unscaled ones. Defaults are the authors' for ViT-B/32 at rank 16. If r reaches the rank of all deltas
    together, ``rule=sum`` is task_arithmetic. Reports ``subspace_error``, what lies outside the subspaces.
    """
    for stack in inputs:
        rank = lora_rank or stack.rank
        if not (parts := weighted(stack)):
            yield Piece(stack.module, nothing(stack))
            continue
        core = small_core(parts)
        shared = shared_subspaces(_rescaled(core.values, beta), rank)
        keys = tuple(stream_key(stack.seed, stack.names[i], stack.module) for i in participants(stack))
        small = Cores(shared.U.T @ core.values @ shared.V, keys, density, dare_density)
        left = core.left @ shared.U @ (RULES[rule](small) * scale)
        yield Piece(stack.module, LowRank(left, core.right @ shared.V), {"subspace_error": _outside(core.values, small.values)})


def _rescaled(cores: Tensor, beta: float) -> Tensor:
    norms: Tensor = cores.flatten(1).norm(dim=1)
    wanted = beta * norms + (1.0 - beta) * norms.mean()
    return cores * (wanted / norms).view(-1, 1, 1)


def _outside(cores: Tensor, inside: Tensor) -> tuple[float, float]:
    """Σ‖C_i − UUᵀC_iVVᵀ‖² and Σ‖C_i‖²."""
    norm = float(cores.square().sum())
    return max(0.0, norm - float(inside.square().sum())), norm


METHOD = Method(
    name="compress_then_merge",
    merge=compress_then_merge,
    kind="equivariant",
    summary="shared subspaces of rank r first, then any rule on the small cores",
    formula="M = λ·U·rule(Uᵀ w·ΔW V)·Vᵀ, U and V by HOOI",
    source="arXiv 2606.03723",
    laws={
        "itself": {"rule": "sum", "scale": 1.0},
        "copies": {"density": 1.0, "scale": 1.0},
        "order": {},
        "zero_weight": {},
        "gauge": {},
    },
    keeps_rank=True,
)
