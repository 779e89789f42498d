"""TSV-Merge (arXiv 2412.00081): the leading singular vectors of every task, made orthogonal to those of the others."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Scale
from adapterbank.merge.participants import nothing, weighted
from adapterbank.merge.triplets import Triplets, orthogonalised, side_by_side, task_triplets, triplets


def tsv_m(inputs: Inputs, *, scale: Scale = 1.0) -> Pieces:
    """``M = λ U⊥ S V⊥ᵀ``: of each ``w_i ΔW_i`` the top ``min(⌊q/n⌋, rank_i)`` singular triplets, q = min(d_out, d_in), side by
    side; U⊥ and V⊥ are the orthonormal matrices nearest to the stacked U and V. λ = 1 is the authors'.

    The authors' code takes ⌊q/n⌋ of every adapter; beyond its rank those would be arbitrary null vectors, so the numerical
    rank bounds it here. n counts the adapters that take part: present, not zero, weight not 0. Duplicates count once.
    Mutually orthogonal adapters give their sum. Reports ``cut_error``, what the bound ⌊q/n⌋ took from the adapters.
    """
    for stack in inputs:
        parts = [spectrum for part in weighted(stack) if (spectrum := triplets(part))]
        kept = task_triplets(parts, min(stack.d_out, stack.d_in))
        matrix = orthogonalised(side_by_side(kept)) if kept else nothing(stack)
        yield Piece(stack.module, LowRank(matrix.left * scale, matrix.right), {"cut_error": _cut(parts, kept)})


def _cut(parts: Sequence[Triplets], kept: Sequence[Triplets]) -> tuple[float, float]:
    """The squared norms of what was left away, and of all."""
    lost = sum(float(whole.S[len(part) :].square().sum()) for whole, part in zip(parts, kept, strict=True))
    return lost, sum(float(whole.S.square().sum()) for whole in parts)


METHOD = Method(
    name="tsv_m",
    merge=tsv_m,
    kind="equivariant",
    summary="top singular vectors of each delta, orthogonalised against the others'",
    formula="M = λ·polar[U_i]·diag[S_i]·polar[V_i]ᵀ, top-⌊q/n⌋ of U_i S_i V_iᵀ = w·ΔW",
    source="arXiv 2412.00081",
    laws={"itself": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
