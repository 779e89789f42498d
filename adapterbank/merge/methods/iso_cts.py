"""Iso-CTS (arXiv 2502.04959): a common subspace of the sum and a few directions of each task, with a flat spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint, Scale
from adapterbank.merge.participants import nothing, total, weighted
from adapterbank.merge.triplets import Triplets, isotropic, orthonormal, side_by_side, triplets

Fraction = Annotated[float, Hint("share of the directions that come from the sum", at_least=0.0, at_most=1.0)]


def iso_cts(inputs: Inputs, *, common_space_fraction: Fraction = 0.8, scale: Scale = 1.0) -> Pieces:
    """``M = λ mean(S) U⊥ V⊥ᵀ``: the top singular triplets of ``Σ w_i ΔW_i``, then of every ``(I − U_c U_cᵀ) w_i ΔW_i`` the same
    number, side by side and made orthonormal.

    Of the q directions ``round((q − ⌊q·fraction⌋)/n)·n`` are the tasks', as in the authors' code; q is the numerical rank of
    the sum, where the authors, who merge full fine-tunings, have min(d_out, d_in). Their code has λ = 1, their best
    results λ = 1.5. n counts the adapters that take part: present, not zero, weight not 0; one that has fewer directions left
    gives those. As with ``iso_c`` a cut to rank r keeps the share r/q of the energy, rank "exact" all of it.
    """
    for stack in inputs:
        parts = weighted(stack)
        spectrum = triplets(total(parts)) if parts else None
        matrix = isotropic(_directions(spectrum, parts, common_space_fraction), scale) if spectrum else nothing(stack)
        yield Piece(stack.module, matrix)


def _directions(spectrum: Triplets, parts: Sequence[LowRank], fraction: float) -> Triplets:
    """The common triplets and those of the tasks, their vectors made orthonormal."""
    size, count = len(spectrum), len(parts)
    each = round((size - int(size * fraction)) / count)
    common = spectrum.first(size - each * count)
    chosen = side_by_side([common, *(_beside(common.U, part).first(each) for part in parts)])
    return Triplets(orthonormal(chosen.U), chosen.S, orthonormal(chosen.V))


def _beside(U: Tensor, part: LowRank) -> Triplets:
    """The triplets of ``part`` less its projection on the columns of U."""
    rest = LowRank(part.left - U @ (U.T @ part.left), part.right)
    return triplets(rest, largest=float(svd(part)[1][0]))


METHOD = Method(
    name="iso_cts",
    merge=iso_cts,
    kind="equivariant",
    summary="top directions of the sum and some of each delta, all with the same singular value",
    formula="M = λ·mean(S)·polar[U_c, U_i]·polar[V_c, V_i]ᵀ",
    source="arXiv 2502.04959",
    laws={"order": {}, "zero_weight": {}, "gauge": {}},
)
