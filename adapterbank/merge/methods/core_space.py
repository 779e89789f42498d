"""Core Space with TIES (arXiv 2509.17786): TIES on the small cores of the deltas between shared bases."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Pieces
from adapterbank.merge.methods.ties import Normalize, Scope, ties
from adapterbank.merge.options import Density, Scale


def core_space(
    inputs: Inputs, *, density: Density = 0.1, scope: Scope = "module", normalize: Normalize = "count", scale: Scale = 1.0
) -> Pieces:
    """``ΔW_i = U C_i Vᵀ`` with bases of all left and all right factors, then TIES on the C_i, module by module.

    It is ``ties`` with ``space=core`` and the authors' topK 10; they search the scale on validation data. Their bases are those
    of the factors as they come, here of balanced ones. DARE takes ``space=core`` too; methods of the kinds linear and
    equivariant (tsv_m, iso_c, cart …) give the same in Core Space as in full, and run there anyway.
    """
    return ties(inputs, density=density, scope=scope, normalize=normalize, scale=scale, space="core")


METHOD = Method(
    name="core_space",
    merge=core_space,
    kind="elementwise",
    summary="Core Space with TIES: TIES on the small cores between shared bases",
    formula="M = λ·U·TIES(C_i)·Vᵀ, ΔW_i = U C_i Vᵀ",
    source="arXiv 2509.17786",
    laws={"itself": {"density": 1.0}, "copies": {"density": 1.0}, "order": {}, "zero_weight": {}, "gauge": {}},
)
