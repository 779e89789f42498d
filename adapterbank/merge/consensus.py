"""The second axis of elementwise methods: one entry out of n weighted ones. Tiles are ``[n, rows, d_in]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

from adapterbank.linalg.workers import share_out
from adapterbank.merge.elementwise import Sparsify, row_tiles, stream, weighted_tile
from adapterbank.merge.stack import Stack


def total(tiles: Tensor) -> Tensor:
    """Their sum."""
    return tiles.sum(dim=0)


def elect(tiles: Tensor, majority: Callable[[], float]) -> Tensor:
    """The sign of the sum; where non-zero entries cancel exactly, the majority sign (TIES, arXiv 2306.01708)."""
    elected = tiles.sum(dim=0).sign_()
    contested = tiles.abs().sum(dim=0).sign_().sub_(elected.abs())  # 1 or 0; comparisons of tensors are several times slower
    return elected.add_(contested, alpha=majority()) if bool(contested.amax()) else elected


def disjoint_mean(tiles: Tensor, elected: Tensor, shares: Tensor) -> Tensor:
    """The sum of the entries of the elected sign, divided by the sum of their ``shares [n]``; 0 where there is none."""
    agreeing = (tiles * elected).clamp_(min=0.0)
    summed = agreeing.sum(dim=0).mul_(elected)
    divisor = agreeing.sign_().mul_(shares.to(tiles.dtype).view(-1, 1, 1)).sum(dim=0)
    return summed.div_(divisor.clamp_(min=torch.finfo(divisor.dtype).tiny))


def majority_sign(parts: Iterable[tuple[Stack, Sparsify, Sequence[float]]]) -> float:
    """+1, −1 or 0: the sign of Σ sign(Σ_i w_i·ΔW_i) over all entries."""
    votes: list[int] = []
    for stack, sparsify, weights in parts:

        def vote(rows: slice, part: Stack = stack, keep: Sparsify = sparsify, own: Sequence[float] = weights) -> int:
            return int(weighted_tile(part, keep, own, rows).sum(dim=0).sign().sum(dtype=torch.int64))

        share_out(vote, row_tiles(stack), votes.append)
    return float((sum(votes) > 0) - (sum(votes) < 0))


def sign_consensus(
    stack: Stack,
    sparsify: Sparsify,
    weights: Sequence[float],
    *,
    normalize: str = "count",
    majority: Callable[[], float] | None = None,
) -> Tensor:
    """Elect a sign for every entry and take the mean of the weighted entries that have it, dense ``[d_out, d_in]``.

    ``normalize``: the mean divides by the ``count`` of agreeing entries, or by the sum of their ``weights``' sizes.
    ``majority`` is asked only if entries cancel exactly; by default it is the majority of this stack.
    """
    ask = majority or cache(lambda: majority_sign([(stack, sparsify, weights)]))
    sizes = [abs(weight) if normalize == "weights" else 1.0 for weight in weights]
    shares = torch.tensor(sizes, dtype=torch.float64, device=stack.lefts[0].device)
    return stream(stack, sparsify, weights, lambda tiles: disjoint_mean(tiles, elect(tiles, ask), shares))
