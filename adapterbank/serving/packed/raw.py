"""An adapter's own factors, resident as they are or as integers: for what has no other form, and to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.pack import pack
from adapterbank.serving.packed.groups import GROUP
from adapterbank.serving.packed.rmm import ABSENT, alignment, held_rows
from adapterbank.serving.packed.stored import Stored
from adapterbank.serving.slots import SlotLayout


@dataclass(frozen=True, slots=True, eq=False)
class RawAdapter:
    """``values`` and ``scales`` of all modules one after the other, each as :class:`Stored` has it, scaling folded into B;
    zeros are behind the scales, so that 32 can be read from any row's on.

    ``table [places, 4]`` int64 says of each place where its values begin, its first row among all, and its rank (ABSENT where
    the adapter lacks the module); the fourth column is for adapters over a basis. ``rank`` is the largest, ``align`` their
    :func:`~adapterbank.serving.packed.rmm.alignment`.
    """

    layout: SlotLayout
    store: str
    values: Tensor
    scales: Tensor | None
    table: Tensor
    rank: int
    align: int = 1

    @classmethod
    def of(cls, adapter: Adapter, layout: SlotLayout, store: str) -> RawAdapter:
        """What ``layout`` holds of ``adapter``. Raises IncompatibleError for a module that does not fit."""
        found: list[Stored] = []
        table: list[list[int]] = []
        first = start = 0
        for place in layout:
            factors = adapter.modules.get(place.whole.name)
            if factors is None:
                table.append([0, 0, ABSENT, 0])
                continue
            place.check(factors.shape(place.whole.name))
            rows = held_rows(pack(factors, dtype=torch.float32).unsqueeze(0), 0, place)[0]
            found.append(Stored.of(rows, store))
            table.append([start, first, factors.rank, 0])
            first, start = first + len(rows), start + found[-1].values.numel()
        values = torch.cat([each.values.flatten() for each in found]) if found else torch.zeros(0)
        scales = [each.scales for each in found if each.scales is not None]
        scales += [torch.zeros(GROUP - 1, dtype=torch.bfloat16)] if scales else []
        rank = max((row[2] for row in table), default=0)
        return cls(
            layout, store, values, torch.cat(scales) if scales else None, torch.tensor(table).view(-1, 4), max(rank, 0),
            alignment(table),
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.table.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def moved(self, move: Callable[[Tensor], Tensor]) -> RawAdapter:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        scales = None if self.scales is None else move(self.scales)
        return replace(self, values=move(self.values), scales=scales, table=move(self.table))

    def rows(self, place: int) -> Tensor | None:
        """The rows of one place ``[rows, r]`` float32; None where the adapter lacks the module."""
        start, first, rank, _ = self.table[place].tolist()
        if rank == ABSENT:
            return None
        rows = self.layout.places[place].shape.rows
        each = -(-rank // 2) if self.store == "int4" else rank
        values = self.values[start : start + rows * each].view(rows, each)
        return Stored(self.store, rank, values, None if self.scales is None else self.scales[first : first + rows]).float()
