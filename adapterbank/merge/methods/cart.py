"""CART (arXiv 2412.12153): the average of the deltas, and the leading part of what each adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated

import torch

from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.small_core import small_core
from adapterbank.merge.stack import Stack

PruningRank = Annotated[float, Hint("rank of each centred delta as a share of min(d_out, d_in)", above=0.0, at_most=1.0)]
Scale = Annotated[float, Hint("λ: multiplies what is added to the average")]


def cart(inputs: Inputs, *, pruning_rank: PruningRank = 0.04, scale: Scale = 0.1) -> Pieces:
    """``M = Δ̄ + λ Σ w_i SVD_k(ΔW_i − Δ̄)`` with ``Δ̄ = Σ w_i ΔW_i / Σ w_i`` and ``k = ⌈pruning_rank·min(d_out, d_in)⌉``.

    The weights are ours, the authors' are all 1; the defaults are those of Core Space's code (arXiv 2509.17786). If k
    reaches the rank of the centred deltas, their sum is zero and M is the average. Raises UsageError if the weights of a
    module sum to zero.
    """
    for stack in inputs:
        rank = ceil(pruning_rank * min(stack.d_out, stack.d_in))
        yield Piece(stack.module, _merged(stack, stack.shares("cart"), rank, scale))


def _merged(stack: Stack, shares: Sequence[float], rank: int, scale: float) -> LowRank:
    given = [i for i, weight in enumerate(stack.weights) if weight]
    core = small_core([LowRank(stack.lefts[i], stack.rights[i]) for i in given])
    weights, parts = (core.values.new_tensor([each[i] for i in given]).view(-1, 1, 1) for each in (stack.weights, shares))
    mean = (parts * core.values).sum(dim=0)
    U, S, Vh = torch.linalg.svd(core.values - mean, full_matrices=False)
    leading = (U[..., :rank] * S[..., None, :rank]) @ Vh[..., :rank, :]
    return core.outside(mean + scale * (weights * leading).sum(dim=0))


METHOD = Method(
    name="cart",
    merge=cart,
    kind="equivariant",
    summary="average, plus the leading part of each delta's distance to it",
    formula="M = Δ̄ + λ·Σ w·SVD_k(ΔW − Δ̄), Δ̄ = Σ w·ΔW / Σ w",
    source="arXiv 2412.12153",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
