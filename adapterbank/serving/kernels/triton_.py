"""One launch for the whole layout: dequantise, combine, cast and store a tile of rows (a CUDA device, or Triton's interpreter).

Nothing waits for the device, and a launch for one adapter allocates nothing once the layout's tables are there, so it can be
captured in a CUDA graph. Several adapters of one kind are one launch too: those that share a basis take turns at each tile,
which the cache holds meanwhile; the first such launch of the same adapters and buffers makes a table of their addresses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import gcd
from struct import pack, unpack
from threading import Lock
from typing import Any

import torch
import triton
from torch import Tensor

from adapterbank.serving.kernels import tiles
from adapterbank.serving.kernels.fit import Known, check
from adapterbank.serving.kernels.reference import ALL, Packed, Window
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import RmmAdapter
from adapterbank.serving.slots import SlotLayout

_TILE = 2048  # numbers of a tile
_KEPT = 256  # tables of addresses
_addresses: OrderedDict[Hashable, Tensor] = OrderedDict()
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Grid:
    """The tiles of a layout on a device: ``places [p, 4]`` int64 and ``tiles [n, 3]`` int32, each of ``rows`` rows at most and
    ``columns`` columns; every offset and rank is a multiple of ``align``."""

    places: Tensor
    tiles: Tensor
    rows: int
    columns: int
    align: int


@dataclass(frozen=True, slots=True)
class _Job:
    adapter: Known
    out: Tensor
    window: Window

    def kind(self) -> Hashable:
        """Jobs of one kind are one launch."""
        item, common = self.adapter, (id(self.adapter.layout), self.out.dtype)
        if isinstance(item, RmmAdapter):
            return (*common, id(item.basis), item.coefficients.dtype)
        return (*common, item.store) if isinstance(item, RawAdapter) else common


def write(adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window] | None = None) -> None:
    """As :func:`reference.write`, one launch for each kind of adapter. Raises as :func:`fit.check` says."""
    kinds: dict[Hashable, list[_Job]] = {}
    for adapter, out, window in zip(adapters, outs, windows or [ALL] * len(adapters), strict=True):
        job = _Job(check(adapter, out, window), out, window)
        kinds.setdefault(job.kind(), []).append(job)
    for jobs in kinds.values():
        if jobs[0].adapter.layout.size:
            _launch(jobs)


def _launch(jobs: Sequence[_Job]) -> None:
    item, out, window = jobs[0].adapter, jobs[0].out, jobs[0].window
    grid, lines = _grid(item.layout, out.device), [_line(job) for job in jobs] if len(jobs) > 1 else []
    common = (_several(lines, out.device) if lines else grid.places, grid.places, grid.tiles, len(jobs))
    last = (window.column, -1 if window.width is None else window.width, window.weight)
    options: dict[str, Any] = {
        "ALIGN": gcd(grid.align, *(_align(job, bool(lines)) for job in jobs)),
        "MANY": bool(lines), "WINDOW": any(job.window != ALL for job in jobs), "ROWS": grid.rows, "COLUMNS": grid.columns,
        "enable_fp_fusion": False,  # sums are those of the reference, bit by bit
    }  # fmt: skip
    programs = (len(grid.tiles) * len(jobs),)
    with torch.cuda.device(out.device if out.is_cuda else -1):
        if isinstance(item, FixedAdapter):
            tiles.unpack[programs](*_codes(item), out, *common, item.widths.shape[1], item.widest, *last, **options)
            return
        values, scales, table, coefficients = _lines(item)
        options |= {"INT4": _store(item) == "int4", "SCALED": scales is not values}
        options["P"] = item.basis.p if isinstance(item, RmmAdapter) else 0
        tiles.combine[programs](values, scales, table, coefficients, out, *common, _pitch(item), *last, **options)


def _codes(item: FixedAdapter) -> tuple[Tensor, ...]:
    return item.words, item.widths, item.columns, item.scales, item.table, item.pitches


def _lines(item: RmmAdapter | RawAdapter) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, scales, table and coefficients; what there is none of is never read."""
    held = item.basis if isinstance(item, RmmAdapter) else item
    coefficients = item.coefficients if isinstance(item, RmmAdapter) else item.values
    return held.values, held.values if held.scales is None else held.scales, item.table, coefficients


def _pitch(item: RmmAdapter | RawAdapter) -> int:
    """Elements of a line."""
    return 0 if isinstance(item, RawAdapter) else item.basis.values.shape[1]


def _store(item: RmmAdapter | RawAdapter) -> str:
    return item.basis.store if isinstance(item, RmmAdapter) else item.store


def _align(job: _Job, addresses: bool) -> int:
    """What divides the places that a job reads and, where a program is not told, the addresses themselves."""
    item = job.adapter
    values = item.words if isinstance(item, FixedAdapter) else _lines(item)[0]
    found = 16 if isinstance(item, FixedAdapter) else item.align
    return gcd(found, values.data_ptr(), job.out.data_ptr()) if addresses else found


def _line(job: _Job) -> tuple[int, ...]:
    """A job's line of ``several``."""
    item, window = job.adapter, job.window
    tensors = [*(_codes(item) if isinstance(item, FixedAdapter) else _lines(item)), job.out]
    numbers = [item.widths.shape[1], item.widest] if isinstance(item, FixedAdapter) else [0] * 4
    weight: int = unpack("<i", pack("<f", window.weight))[0]
    addresses = [tensor.data_ptr() for tensor in tensors]
    return (*addresses, *numbers, window.column, -1 if window.width is None else window.width, weight)


def _several(lines: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """The lines on the device, from the last few hundred that were made. They are nothing but addresses, so a table that is
    found is right whatever lies there now."""
    key = (device, *lines)
    with _lock:
        found = _addresses.pop(key, None)
        if found is None:
            found = torch.tensor(lines, dtype=torch.int64).to(device)
        _addresses[key] = found
        while len(_addresses) > _KEPT:
            _addresses.popitem(last=False)
    return found


def _grid(layout: SlotLayout, device: torch.device) -> Grid:
    """Made once for a layout and a device, kept with the layout."""
    found = layout.cached.get(("tiles", device))
    if found is None:
        columns = max(2, triton.next_power_of_2(max(place.whole.rank for place in layout)))
        rows = max(16, _TILE // columns)
        tiles = [
            (index, side, row)
            for index, place in enumerate(layout)
            for side, (begin, end) in enumerate(((0, len(place.out)), (len(place.out), place.shape.rows)))
            for row in range(begin, end, rows)
        ]
        align = gcd(16, *layout.table[:, [0, 3]].flatten().tolist())
        table = torch.tensor(tiles, dtype=torch.int32).view(-1, 3)
        found = layout.cached[("tiles", device)] = Grid(layout.table.to(device), table.to(device), rows, columns, align)
    return found
