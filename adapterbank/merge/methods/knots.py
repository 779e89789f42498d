"""KnOTS-TIES (arXiv 2410.19735): TIES on the right vectors of the deltas in one shared left basis."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Pieces
from adapterbank.merge.methods.ties import Normalize, Scope, ties
from adapterbank.merge.options import Density, Scale


def knots(
    inputs: Inputs, *, density: Density = 0.2, scope: Scope = "model", normalize: Normalize = "count", scale: Scale = 0.6
) -> Pieces:
    """``[ΔW_1 | … | ΔW_n] = U S [V_1ᵀ | … | V_nᵀ]``, then TIES on the ``S V_iᵀ`` of all modules together, and U in front.

    It is ``ties`` with ``space=knots`` and the authors' settings for ViT-B/32 (topK 20, mean, scaling 0.6). Their
    KnOTS-DARE-TIES is ``dare_ties`` with ``space=knots``, density 0.9 and scale 0.7. With a linear rule KnOTS is
    task_arithmetic.
    """
    return ties(inputs, density=density, scope=scope, normalize=normalize, scale=scale, space="knots")


METHOD = Method(
    name="knots",
    merge=knots,
    kind="elementwise",
    summary="KnOTS-TIES: TIES on the right vectors in one shared left basis",
    formula="M = λ·U·TIES(S V_iᵀ), [ΔW_1|…|ΔW_n] = U S [V_1ᵀ|…|V_nᵀ]",
    source="arXiv 2410.19735",
    laws={
        "itself": {"density": 1.0, "scale": 1.0},
        "copies": {"density": 1.0, "scale": 1.0},
        "order": {},
        "zero_weight": {},
        "gauge": {},
    },
)
