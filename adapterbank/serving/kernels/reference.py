"""The specification of every kernel: place by place, in plain torch, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.serving.slots import SlotLayout


class Packed(Protocol):
    """An adapter that is resident for a layout."""

    @property
    def layout(self) -> SlotLayout: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def rank(self) -> int:
        """The largest rank that it has in a place."""

    def moved(self, move: Callable[[Tensor], Tensor]) -> Packed:
        """The same after ``move`` of every tensor of its own: to a device, into pinned memory."""

    def rows(self, place: int) -> Tensor | None:
        """The rows of one place ``[rows, r]`` float32, r at most the place's rank; None for a module that it lacks."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which columns of every place are written: ``width`` of them (by default all that are left) from ``column`` on.

    Those beyond the adapter's own rank become zeros; the rows of B are multiplied by ``weight``.
    """

    column: int = 0
    width: int | None = None
    weight: float = 1.0


ALL = Window()


def write(adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window] | None = None) -> None:
    """Write each adapter into its buffer: float32 sums, each number rounded once to the buffer's dtype; what a window leaves
    out stays as it was. Raises UsageError for buffers that do not fit, or an adapter that is wider than its window."""
    for adapter, out, window in zip(adapters, outs, windows or [ALL] * len(adapters), strict=True):
        layout = adapter.layout
        layout.check(out)
        for index, place in enumerate(layout):
            shape = place.shape
            block = out[place.offset : place.offset + place.size].view(shape.rows, shape.rank)
            _fill(block[:, window.column : _end(window)], adapter.rows(index), shape.d_out, window.weight)


def _end(window: Window) -> int | None:
    return None if window.width is None else window.column + window.width


def _fill(block: Tensor, rows: Tensor | None, d_out: int, weight: float) -> None:
    if rows is None:
        block.zero_()
        return
    rank = rows.shape[1]
    if rank > block.shape[1]:
        raise UsageError(f"{rank} columns do not fit into a window of {block.shape[1]}")
    if weight != 1.0:
        rows = torch.cat([rows[:d_out] * weight, rows[d_out:]])
    block[:, :rank] = rows.to(block.dtype)
    block[:, rank:] = 0
