"""The data-free LoRA form of PLeaS (arXiv 2407.02447): units that match are averaged, the others kept side by side.

From the authors: matching by weights, and a partial merge whose width is the budget. Ours: the units are those of the rank
axis, and there is no least-squares fit on activations, which gave the method its name.
"""

from __future__ import annotations

from typing import Annotated

import torch

from adapterbank.merge.alignment import align, balanced_units, by_permutation, reference, unit_cosines
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack

Ratio = Annotated[
    float, Hint("fraction of the rank units that are averaged; the others stay side by side", above=0.0, at_most=1.0)
]


def pleas_data_free(inputs: Inputs, *, ratio: Ratio = 0.5) -> Pieces:
    """Rank units matched to the medoid's; the best ``ratio·r`` slots become ``(Σ f b)(Σ f a)ᵀ``, the others ``Σ f b aᵀ``.

    f are the weights over their sum. A slot is as good as the weighted mean cosine of its units' rank-one terms with the
    medoid's. The output has between r (ratio 1, the aligned factor average) and n·r units (ratio near 0, the exact average).
    """
    for stack in inputs:
        shares = stack.shares("pleas_data_free")
        aligned = align(stack, balanced_units, by_permutation)
        joined, apart = _slots(aligned, ratio)
        left, right = _average(aligned.lefts, shares, joined), _average(aligned.rights, shares, joined)
        present = [i for i, side in enumerate(aligned.lefts) if side.shape[1]]
        lefts = [aligned.lefts[i][:, apart] * shares[i] for i in present]
        rights = [aligned.rights[i][:, apart] for i in present]
        yield Piece(stack.module, LowRank(torch.cat([left, *lefts], dim=1), torch.cat([right, *rights], dim=1)))


def _slots(aligned: Stack, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The slots to join and those to keep apart, each in ascending order."""
    to = reference(aligned)
    others = [i for i, side in enumerate(aligned.lefts) if i != to and side.shape[1] and aligned.weights[i]]
    rank = aligned.lefts[to].shape[1]
    scores = aligned.lefts[to].new_zeros(rank)
    for i in others:
        pair = LowRank(aligned.lefts[to], aligned.rights[to]), LowRank(aligned.lefts[i], aligned.rights[i])
        scores += abs(aligned.weights[i]) * unit_cosines(*pair)
    order = scores.sort(descending=True, stable=True).indices
    count = round(ratio * rank)
    return order[:count].sort().values, order[count:].sort().values


def _average(sides: tuple[torch.Tensor, ...], shares: list[float], slots: torch.Tensor) -> torch.Tensor:
    total = sides[0].new_zeros(len(sides[0]), len(slots))
    for side, share in zip(sides, shares, strict=True):
        if side.shape[1]:
            total += side[:, slots] * share
    return total


METHOD = Method(
    name="pleas_data_free",
    merge=pleas_data_free,
    kind="factors",
    summary="matching rank units averaged, the others side by side",
    formula="M = Σ_joined (Σ f·b)(Σ f·a)ᵀ + Σ_apart Σ f·b·aᵀ",
    source="arXiv 2407.02447 (without its fit on activations)",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {"ratio": 1e-9}},
    keeps_rank=True,
)
