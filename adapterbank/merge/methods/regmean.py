"""RegMean (arXiv 2212.09849): in every module, the delta whose answers on each adapter's own inputs are that adapter's.

The authors' is the closed form ``W = (Σ G_i)⁻¹ Σ G_i W_i`` of the weights with off-diagonal entries of each G_i scaled down;
the base's weights cancel in it, so it holds for deltas. Ours: the weights w_i; a negative one asks for −ΔW_i; the ridge, added
to each G_i alike, so that directions nobody's inputs have get the mean; the form in factors; and the cut to a rank under
RegMean's own loss instead of the Frobenius norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.least_squares import (
    Ratio,
    Ridge,
    energy,
    least_squares,
    loss,
    packed_shapes,
    ridged,
    shrunk,
    total,
    unpacked,
)
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.needed import needed_statistics, tensors_of
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack

Whiten = Annotated[bool, Hint("cut to the rank under RegMean's own loss; else under the Frobenius norm")]


def regmean(inputs: Inputs, *, reduce_non_diagonal_ratio: Ratio = 0.95, ridge: Ridge = 1e-6, whiten: Whiten = True) -> Pieces:
    """``M = (Σ w_i ΔW_i G̃_i)(Σ |w_i| G̃_i)⁻¹``, G̃ = αG + (1 − α)·diag(G) + ridge, of rank Σ r_i at most.

    Reports ``regmean_loss``, the relative error (before the cut) of the answers on the inputs that G was made of, and the same
    of the average, ``average_loss``. Raises UsageError without Gram matrices, or if all weights are 0.
    """
    yield from pieces(inputs, needed_statistics(inputs, "gram", "regmean"), reduce_non_diagonal_ratio, ridge, whiten=whiten)


def pieces(inputs: Inputs, statistics: Mapping[str, Statistics], ratio: float, ridge: float, *, whiten: bool) -> Pieces:
    """The merge of every module from the Gram matrices in ``statistics``."""
    if not any(inputs.weights):
        raise UsageError(f"regmean: the weights {list(inputs.weights)} are all 0")
    for stack in inputs:
        weighed = any(stack.weights)  # not so where none but adapters of weight 0 have the module
        yield _piece(stack, statistics, ratio, ridge, whiten=whiten) if weighed else Piece(stack.module, stack.combine())


def _piece(stack: Stack, statistics: Mapping[str, Statistics], ratio: float, ridge: float, *, whiten: bool) -> Piece:
    tensors = tensors_of(stack, statistics, packed_shapes(stack.d_in))
    measured = [unpacked(entries, stack.d_in) for entries in tensors]
    grams = ridged([shrunk(gram, ratio) for gram in measured], stack.weights, ridge)
    merged = least_squares(stack, grams)
    size = sum(map(abs, stack.weights))
    average = stack.combine([weight / size for weight in stack.weights])
    whole = energy(stack, measured)
    errors = {"regmean_loss": (loss(stack, measured, merged), whole), "average_loss": (loss(stack, measured, average), whole)}
    return Piece(stack.module, merged, errors, metric=total(grams, stack.weights) if whiten else None)


METHOD = Method(
    name="regmean",
    merge=regmean,
    kind="statistics",
    summary="answers like each adapter on that adapter's inputs, by least squares",
    formula="M = (Σ w·ΔW·G)(Σ |w|·G)⁻¹, G = XᵀX of the module's inputs",
    source="arXiv 2212.09849",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    needs=("gram",),
)
