"""The first axis of elementwise methods: which entries of one adapter's ΔW survive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor

from adapterbank.merge.elementwise import Space, Sparsify, row_tiles
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.selection import kth_largest
from adapterbank.merge.stack import Stack
from adapterbank.merge.streams import kept, stream_key


def trim(thresholds: Sequence[float]) -> Sparsify:
    """Keep the entries of adapter i whose size is at least ``thresholds[i]`` (TIES)."""
    return lambda index, _rows, tile: tile.masked_fill(tile.abs() < thresholds[index], 0.0)


def drop(stack: Stack, density: float) -> Sparsify:
    """Keep each entry with probability ``density`` and divide it by ``density`` (DARE); masks keyed by adapter and module."""
    keys = [stream_key(stack.seed, name, stack.module) for name in stack.names]

    def sparsify(index: int, rows: slice, tile: Tensor) -> Tensor:
        mask = kept(keys[index], rows.start * stack.d_in, tile.numel(), density).view_as(tile)
        return tile.masked_fill(~mask, 0.0) / density

    return sparsify


def module_thresholds(space: Space, density: float) -> list[float]:
    """For each adapter the size of its ``⌊density·N⌋``-th largest entry (at least the first) in this module."""
    return [_module_threshold(space, index, density) for index in range(len(space))]


def model_thresholds(inputs: Inputs, density: float) -> list[float]:
    """The same over all modules of the merge as one vector; a module that an adapter lacks counts as zeros."""
    entries = sum(shape.d_out * shape.d_in for shape in inputs.shapes.values())

    def sizes(index: int) -> Iterable[Tensor]:
        for stack in inputs:
            if index in stack.members:
                at = stack.members.index(index)
                yield from (stack.rows(at, rows).abs() for rows in row_tiles(stack))

    return [kth_largest(partial(sizes, index), _count(density, entries)) for index in range(len(inputs))]


def _module_threshold(space: Space, index: int, density: float) -> float:
    sizes = [space.rows(index, rows).abs() for rows in row_tiles(space)]  # one dense delta
    return kth_largest(lambda: sizes, _count(density, space.d_out * space.d_in))


def _count(density: float, entries: int) -> int:
    return max(1, int(density * entries))
