"""The first axis of elementwise methods: which entries of one adapter's ΔW survive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from adapterbank.linalg.workers import share_out
from adapterbank.merge.elementwise import Sparsify, runs
from adapterbank.merge.selection import Selection, counted, no_counts
from adapterbank.merge.stack import Stack
from adapterbank.merge.streams import kept, stream_key


def trim(thresholds: Sequence[float]) -> Sparsify:
    """Keep the entries of adapter i whose size is at least ``thresholds[i]`` (TIES)."""
    return lambda index, _rows, tile: hardshrink(tile, _below(thresholds[index], tile.dtype))


def drop(stack: Stack, density: float) -> Sparsify:
    """Keep each entry with probability ``density`` and divide it by ``density`` (DARE); masks keyed by adapter and module."""
    keys = [stream_key(stack.seed, name, stack.module) for name in stack.names]

    def sparsify(index: int, rows: slice, tile: Tensor) -> Tensor:
        mask = kept(keys[index], rows.start * stack.d_in, tile.numel(), density).view_as(tile)
        return tile.mul_(mask.view(torch.uint8).to(tile)).div_(density)

    return sparsify


def thresholds(stacks: Callable[[], Iterable[Stack]], density: float) -> Mapping[int, float]:
    """The size of the ``⌊density·N⌋``-th largest (at least the first) of an adapter's N entries, by its place in the merge.

    N counts all that each call of ``stacks`` goes through, as one vector; a stack in which an adapter has no place counts as
    zeros of it.
    """
    shapes = [(stack.d_out * stack.d_in, stack.lefts[0].dtype, stack.members) for stack in stacks()]
    count = max(1, int(density * sum(entries for entries, _, _ in shapes)))
    dtype = torch.float64 if any(own == torch.float64 for _, own, _ in shapes) else torch.float32
    selections = {member: Selection(count, dtype) for _, _, members in shapes for member in members}
    while not all(selection.done for selection in selections.values()):
        sums = {member: no_counts() for member in selections}
        for stack in stacks():
            _count(stack, selections, sums)
        for member, selection in selections.items():
            selection.settle(sums[member])
    return {member: selection.value for member, selection in selections.items()}


def _count(stack: Stack, selections: Mapping[int, Selection], sums: Mapping[int, Tensor]) -> None:
    """Add the counts of one stack to ``sums``: runs of tiles of one adapter on each thread."""

    def count(task: tuple[int, list[slice]]) -> tuple[int, Tensor]:
        index, run = task
        member = stack.members[index]
        return member, counted(selections[member].digits(stack.rows(index, rows)) for rows in run)

    def add(result: tuple[int, Tensor]) -> None:
        sums[result[0]].add_(result[1])

    share_out(count, ((index, run) for index in range(len(stack)) for run in runs(stack)), add)


def _below(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of ``dtype`` below ``threshold``: ``hardshrink`` keeps what is larger than its argument."""
    narrow = np.float32 if dtype == torch.float32 else np.float64
    nearest = narrow(threshold)
    return float(nearest if nearest < threshold else np.nextafter(nearest, narrow(-inf)))
