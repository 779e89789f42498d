"""The second axis of elementwise methods: one entry out of n weighted ones. Tiles are ``[n, rows, d_in]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

from adapterbank.merge.elementwise import Space, Sparsify, stream, weighted_tiles


def total(tiles: Tensor) -> Tensor:
    """Their sum."""
    return tiles.sum(dim=0)


def elect(tiles: Tensor, majority: Callable[[], float]) -> Tensor:
    """The sign of the sum; where non-zero entries cancel exactly, the majority sign (TIES, arXiv 2306.01708)."""
    elected = tiles.sum(dim=0).sign()
    contested = (elected == 0) & tiles.any(dim=0)
    if bool(contested.any()):
        elected = torch.where(contested, majority(), elected)
    return elected


def disjoint_mean(tiles: Tensor, elected: Tensor, shares: Tensor) -> Tensor:
    """The sum of the entries of the elected sign, divided by the sum of their ``shares [n]``; 0 where there is none."""
    agree = (tiles.sign() == elected) & (elected != 0)
    divisor = (agree * shares.view(-1, 1, 1)).sum(dim=0)
    return tiles.masked_fill(~agree, 0.0).sum(dim=0) / divisor.masked_fill(divisor == 0, 1.0)


def majority_sign(spaces: Iterable[tuple[Space, Sparsify, Sequence[float]]]) -> float:
    """+1, −1 or 0: the sign of Σ sign(Σ_i w_i·ΔW_i) over all entries."""
    votes = sum(
        float(tiles.sum(dim=0).sign().sum())
        for space, sparsify, weights in spaces
        for _, tiles in weighted_tiles(space, sparsify, weights)
    )
    return float((votes > 0) - (votes < 0))


def sign_consensus(
    space: Space,
    sparsify: Sparsify,
    weights: Sequence[float],
    *,
    normalize: str = "count",
    majority: Callable[[], float] | None = None,
) -> Tensor:
    """Elect a sign for every entry and take the mean of the weighted entries that have it, dense ``[d_out, d_in]``.

    ``normalize``: the mean divides by the ``count`` of agreeing entries, or by the sum of their ``weights``' sizes.
    ``majority`` is asked only if entries cancel exactly; by default it is the majority of this module.
    """
    ask = majority or cache(lambda: majority_sign([(space, sparsify, weights)]))
    shares = torch.tensor([abs(weight) if normalize == "weights" else 1.0 for weight in weights], dtype=torch.float64)
    return stream(space, sparsify, weights, lambda tiles: disjoint_mean(tiles, elect(tiles, ask), shares))
