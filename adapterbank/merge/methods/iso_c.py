"""Iso-C (arXiv 2502.04959): the sum of the deltas with a flat spectrum, so that no task's direction dominates."""

from __future__ import annotations

from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Scale
from adapterbank.merge.participants import nothing, total, weighted
from adapterbank.merge.triplets import isotropic, triplets


def iso_c(inputs: Inputs, *, scale: Scale = 1.0) -> Pieces:
    """``M = λ mean(S) U Vᵀ`` with ``U S Vᵀ = Σ w_i ΔW_i``; the authors' code has λ = 1, their best results λ = 1.5.

    The mean and the vectors are those of the numerical rank of the sum, at most Σ r_i. The authors, who merge full
    fine-tunings, average over all min(d_out, d_in) singular values; of a sum of LoRA deltas most of those are zero and
    their vectors arbitrary. All K directions count alike: a cut to rank r keeps the leading ones of the sum, but only the
    share r/K of the energy; rank "exact" keeps all.
    """
    for stack in inputs:
        parts = weighted(stack)
        spectrum = triplets(total(parts)) if parts else None
        yield Piece(stack.module, isotropic(spectrum, scale) if spectrum else nothing(stack))


METHOD = Method(
    name="iso_c",
    merge=iso_c,
    kind="equivariant",
    summary="sum of the deltas, all singular values set to their mean",
    formula="M = λ·mean(S)·U Vᵀ, U S Vᵀ = Σ w·ΔW at its numerical rank",
    source="arXiv 2502.04959",
    laws={"order": {}, "zero_weight": {}, "gauge": {}},
)
