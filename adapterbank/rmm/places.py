"""The places of a layout: one module at one rank, who holds it, and its rows in every block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.gauge import Frame, frames, turned_rows
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.rmm.basis import row_blocks

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One module at one rank: its rows in the class block, and for each holder (by its index) the factors and rows it has."""

    shape: ModuleShape
    rows: slice
    holders: tuple[int, ...]
    factors: tuple[Factors, ...]
    own_rows: tuple[slice, ...]

    def blocks(self, held: Sequence[Frame]) -> Iterator[tuple[slice, Tensor]]:
        """Row blocks ``(rows of the module, [holders, rows, r] float64)`` in the frames' gauge; none straddles B and A."""
        for start, stop in ((0, self.shape.d_out), (self.shape.d_out, self.shape.rows)):
            for rows in row_blocks(start, stop, len(self.holders), self.shape.rank):
                pairs = zip(self.factors, held, strict=True)
                yield rows, torch.stack([turned_rows(factors, frame, rows) for factors, frame in pairs])

    def frames(self, gauge: str) -> list[Frame]:
        """The holders' frames in a gauge."""
        return frames(self.factors, gauge)


def places(adapters: Sequence[Adapter], layout: Layout) -> Iterator[Place]:
    """Every place of ``layout`` that an adapter holds; IncompatibleError if one has a module that has no place."""
    shapes = [adapter.shapes for adapter in adapters]
    own = [Layout.of(of_one) for of_one in shapes]
    holders: Mapping[ModuleShape, list[int]] = {shape: [] for shape in layout}
    for index, of_one in enumerate(shapes):
        for shape in of_one:
            if shape not in holders:
                raise IncompatibleError(f"module {shape.name!r} ({shape.d_out}×{shape.d_in}, rank {shape.rank}) has no place")
            holders[shape].append(index)
    for block in layout.classes:
        for shape in block.modules:
            held = holders[shape]
            if held:
                factors = tuple(adapters[i].modules[shape.name] for i in held)
                rows = tuple(own[i][shape.rank].rows_of(shape) for i in held)
                yield Place(shape, block.rows_of(shape), tuple(held), factors, rows)


def shifted(rows: slice, start: int) -> slice:
    """``rows`` of a module as rows of a block in which the module begins at ``start``."""
    return slice(start + rows.start, start + rows.stop)


def told(progress: Progress | None, total: int) -> Callable[[int], None]:
    """A function that is given the rows of one finished place after the other and tells ``progress`` (rows so far, total)."""
    done = 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    return tell
