"""Plain torch that ``torch.compile`` makes one kernel of for each rank of a layout: what ``compiled`` runs on a GPU.

Every row finds its place in a table of the layout, and what the adapter has there in the adapter's own. So shapes depend on the
layout only, and no adapter compiles anything anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from types import FunctionType

import torch
from torch import Tensor

from adapterbank.serving.kernels.fit import Known
from adapterbank.serving.kernels.reference import Window
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.groups import GROUP
from adapterbank.serving.packed.rmm import RmmAdapter
from adapterbank.serving.slots import SlotLayout


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all places of one rank, which lie next to each other from element ``offset`` on.

    ``tables``: of each row its place and its number there (int32), and the layout's table of places.
    """

    offset: int
    rank: int
    rows: int
    tables: tuple[Tensor, Tensor, Tensor]


def write(adapters: Sequence[Known], outs: Sequence[Tensor], windows: Sequence[Window]) -> None:
    """As :func:`reference.write`, one launch for each adapter and rank of the layout."""
    for adapter, out, window in zip(adapters, outs, windows, strict=True):
        for block in _blocks(adapter.layout, out.device):
            end = block.rank if window.width is None else min(window.column + window.width, block.rank)
            to = out[block.offset : block.offset + block.rows * block.rank].view(-1, block.rank)[:, window.column : end]
            if to.numel():
                with torch.no_grad():
                    _write(adapter, block, window.weight, to)


def _write(adapter: Known, block: Rows, weight: float, to: Tensor) -> None:
    scale = None if weight == 1.0 else torch.full((), weight, device=to.device)
    if isinstance(adapter, FixedAdapter):
        arrays = (adapter.words, adapter.widths, adapter.columns, adapter.scales, adapter.table, adapter.pitches)
        widest = 4 if adapter.widest <= 4 else 8  # few kernels for all adapters
        _compiled(decode, (widest, block.rank, to.dtype, weight == 1.0))(arrays, widest, block.tables, scale, to)
        return
    held = adapter.basis if isinstance(adapter, RmmAdapter) else adapter
    values = held.values.view(-1, held.values.shape[-1])
    scales = None if held.scales is None else held.scales.flatten()
    coefficients = adapter.coefficients.flatten() if isinstance(adapter, RmmAdapter) else None
    packed = 2 if held.store == "int4" else 1
    kind = (held.store, len(values), None if coefficients is None else coefficients.dtype)
    call = _compiled(combine, (*kind, block.rank, to.dtype, weight == 1.0))
    call(values, scales, packed, coefficients, adapter.table, block.tables, scale, to)


@cache
def _compiled(function: Callable[..., None], case: Hashable) -> Callable[..., None]:
    """A copy for each case: after eight compilations of one code Dynamo runs it uncompiled, and does not say so."""
    assert isinstance(function, FunctionType)
    return torch.compile(FunctionType(function.__code__.replace(), function.__globals__))


def combine(
    values: Tensor,
    scales: Tensor | None,
    packed: int,
    coefficients: Tensor | None,
    table: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    weight: Tensor | None,
    out: Tensor,
) -> None:
    """μ + Σ_k c_k·b_k in float32 into ``out [rows, columns]``: ``values [1 + p, …]`` of ``packed`` numbers in an element."""
    place, row, _ = rows
    start, first, rank, given = (each.unsqueeze(1) for each in table[place].unbind(1))
    k = torch.arange(out.shape[1], device=out.device)
    live = k < rank
    at = torch.where(live, start + row.unsqueeze(1) * ((rank + packed - 1) // packed) + k // packed, 0)
    line = torch.where(rank > 0, first + row.unsqueeze(1), 0)
    own = torch.where(rank > 0, given + row.unsqueeze(1), 0)
    total, p = torch.zeros((), device=out.device), values.shape[0] - 1
    for number in range(1 + p):
        found = values[number][at]
        if packed == 2:
            found = (((found.to(torch.int32) >> (k % 2 * 4)) & 15) ^ 8) - 8
        found = found.float()
        if scales is not None:
            found = found * scales[_grouped(line, 1 + p, number)].float()
        if number and coefficients is not None:
            found = coefficients[_grouped(own, p, number - 1)].float() * found
        total = total + found
    _put(total, live, rows, weight, out)


def _grouped(row: Tensor, lines: int, number: int) -> Tensor:
    """Where a row of one of so many lines lies among groups of 32."""
    return (row // GROUP * lines + number) * GROUP + row % GROUP


def decode(
    arrays: tuple[Tensor, ...], widest: int, rows: tuple[Tensor, Tensor, Tensor], weight: Tensor | None, out: Tensor
) -> None:
    """(2q − (2^width − 1))·scale of the codes q into ``out [rows, columns]``."""
    words, widths, columns, scales, table, pitches = arrays
    place, row, places = rows
    of_B = places[place, 1]
    side = (row >= of_B).long()
    entry = table[place]
    held = row - side * of_B + entry.gather(1, (3 + 2 * side).unsqueeze(1)).squeeze(1)
    pitch = pitches[place].gather(1, side.unsqueeze(1)).squeeze(1)
    group = entry.gather(1, (2 + 2 * side).unsqueeze(1)).squeeze(1) + held // 32 * pitch
    k = torch.arange(out.shape[1], device=out.device)
    live = k < entry[:, 1:2]
    index = torch.where(live, entry[:, :1] + k, 0)
    bits = torch.where(live, widths[side.unsqueeze(1), index].int(), 0)
    plane = group.unsqueeze(1) + columns[side.unsqueeze(1), index]
    code = torch.zeros((), dtype=torch.int32, device=out.device)
    for bit in range(widest):
        there = bit < bits
        word = words[torch.where(there, plane + bit, 0)]
        code = code | torch.where(there, ((word >> (held % 32).int().unsqueeze(1)) & 1) << bit, 0)
    total = (2 * code - ((1 << bits) - 1)).float() * scales[side.unsqueeze(1), index].float()
    _put(total, live, rows, weight, out)


def _put(total: Tensor, live: Tensor, rows: tuple[Tensor, Tensor, Tensor], weight: Tensor | None, out: Tensor) -> None:
    place, row, places = rows
    if weight is not None:
        total = torch.where((row < places[place, 1]).unsqueeze(1), total * weight, total)
    out.copy_(torch.where(live, total, 0.0))


def _blocks(layout: SlotLayout, device: torch.device) -> list[Rows]:
    """Made once for a layout and a device, kept with the layout."""
    found: list[Rows] | None = layout.cached.get(("rows", device))
    if found is None:
        found, places = [], layout.table.to(device)
        for rank in sorted({place.whole.rank for place in layout}):
            chosen = [(index, place) for index, place in enumerate(layout) if place.whole.rank == rank]
            place = torch.cat([torch.full((each.shape.rows,), index, dtype=torch.int32) for index, each in chosen])
            row = torch.cat([torch.arange(each.shape.rows, dtype=torch.int32) for _, each in chosen])
            found.append(Rows(chosen[0][1].offset, rank, len(row), (place.to(device), row.to(device), places)))
        layout.cached[("rows", device)] = found
    return found
