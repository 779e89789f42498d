"""Entry by entry, in row tiles: what is not linear in the deltas sees a few rows of each at a time, never all of them.

The two axes of these methods are apart: *sparsify* (``sparsify.py``) takes one adapter's rows, *consensus*
(``consensus.py``) the rows of all. The tiles of a module depend on its shape only, so the bits do too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

TILE_ENTRIES = 1 << 16  # 512 KiB of float64 for each adapter: n of them stay near the cache


class Space(Protocol):
    """n matrices ``[d_out, d_in]`` of one module that can be read by rows: the dense deltas, or another space's."""

    @property
    def d_out(self) -> int: ...
    @property
    def d_in(self) -> int: ...
    def __len__(self) -> int: ...
    def rows(self, index: int, rows: slice) -> Tensor:
        """The rows ``[rows, d_in]`` of matrix ``index``, float64."""


Sparsify = Callable[[int, slice, Tensor], Tensor]
"""(adapter, rows, their entries ``[rows, d_in]``) → the entries with some of them zero."""


def row_tiles(space: Space) -> Iterator[slice]:
    """Slices of rows with about :data:`TILE_ENTRIES` entries each, at least one row."""
    step = max(1, TILE_ENTRIES // space.d_in)
    return (slice(start, min(start + step, space.d_out)) for start in range(0, space.d_out, step))


def weighted_tiles(space: Space, sparsify: Sparsify, weights: Sequence[float]) -> Iterator[tuple[slice, Tensor]]:
    """Rows and ``w_i·sparsify(ΔW_i)`` there, ``[n, rows, d_in]``."""
    for rows in row_tiles(space):
        yield rows, torch.stack([sparsify(i, rows, space.rows(i, rows)) * weights[i] for i in range(len(space))])


def stream(space: Space, sparsify: Sparsify, weights: Sequence[float], consensus: Callable[[Tensor], Tensor]) -> Tensor:
    """The dense merge ``[d_out, d_in]``: ``consensus`` of each weighted tile ``[n, rows, d_in]``."""
    merged = torch.empty(space.d_out, space.d_in, dtype=torch.float64)
    for rows, tiles in weighted_tiles(space, sparsify, weights):
        merged[rows] = consensus(tiles)
    return merged
