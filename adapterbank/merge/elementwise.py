"""Entry by entry, in row tiles: what is not linear in the deltas sees a few rows of each at a time, never all of them.

The two axes of these methods are apart: *sparsify* (``sparsify.py``) takes one adapter's rows, *consensus*
(``consensus.py``) the rows of all. The tiles depend on a stack's shape and number only and are shared out to threads whole,
so the bits do not depend on who computes them. ``spaces.py`` says in which coordinates: every space is a stack again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from adapterbank.linalg.workers import share_out
from adapterbank.merge.stack import Stack

TILE_ENTRIES = 1 << 19  # of all adapters together: 2 MiB of float32 stay in the cache
_ROWS = 8  # at least: products of single rows are slow
_RUN = 4

Sparsify = Callable[[int, slice, Tensor], Tensor]
"""(adapter, rows, their entries ``[rows, d_in]``) → the entries with some of them zero; may write to the entries."""

Consensus = Callable[[Tensor], Tensor]
"""Weighted entries ``[n, rows, d_in]`` → one entry each, ``[rows, d_in]``."""


def row_tiles(stack: Stack) -> Iterator[slice]:
    """Slices of rows, with about :data:`TILE_ENTRIES` entries of all adapters each."""
    step = max(_ROWS, TILE_ENTRIES // max(1, len(stack) * stack.d_in))
    return (slice(start, min(start + step, stack.d_out)) for start in range(0, stack.d_out, step))


def runs(stack: Stack) -> Iterator[list[slice]]:
    """The tiles, a few at a time: what is counted over tiles is summed up less often."""
    tiles = list(row_tiles(stack))
    return (tiles[start : start + _RUN] for start in range(0, len(tiles), _RUN))


def weighted_tile(stack: Stack, sparsify: Sparsify, weights: Sequence[float], rows: slice) -> Tensor:
    """``w_i·sparsify(ΔW_i)`` of these rows, ``[n, rows, d_in]`` in the stack's own dtype."""
    tiles = stack.lefts[0].new_empty(len(stack), rows.stop - rows.start, stack.d_in)
    for index, tile in enumerate(tiles):
        kept = sparsify(index, rows, stack.rows(index, rows, tile))
        if kept is not tile or weights[index] != 1.0:
            torch.mul(kept, weights[index], out=tile)
    return tiles


def weighted_tiles(stack: Stack, sparsify: Sparsify, weights: Sequence[float]) -> Iterator[tuple[slice, Tensor]]:
    """The rows and :func:`weighted_tile` of each tile, one after the other."""
    return ((rows, weighted_tile(stack, sparsify, weights, rows)) for rows in row_tiles(stack))


def stream(stack: Stack, sparsify: Sparsify, weights: Sequence[float], consensus: Consensus) -> Tensor:
    """The dense merge ``[d_out, d_in]``: ``consensus`` of each weighted tile; on several threads at once."""
    merged = stack.lefts[0].new_empty(stack.d_out, stack.d_in)

    def fill(rows: slice) -> None:
        merged[rows] = consensus(weighted_tile(stack, sparsify, weights, rows))

    share_out(fill, row_tiles(stack))
    return merged
