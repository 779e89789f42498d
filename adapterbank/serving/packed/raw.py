"""An adapter's own factors, resident as they are or as integers: for what has no other form, and to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.pack import pack
from adapterbank.serving.packed.rmm import held_rows
from adapterbank.serving.packed.stored import Stored
from adapterbank.serving.slots import SlotLayout


@dataclass(frozen=True, slots=True, eq=False)
class RawAdapter:
    """``values`` and ``scales`` of all modules one after the other, each as :class:`Stored` has it, scaling folded into B.

    ``held[i]`` is (rank, rows, first row, start in ``values``) of place i, or None where the adapter lacks the module.
    """

    layout: SlotLayout
    store: str
    held: tuple[tuple[int, int, int, int] | None, ...]
    values: Tensor
    scales: Tensor | None

    @classmethod
    def of(cls, adapter: Adapter, layout: SlotLayout, store: str) -> RawAdapter:
        """What ``layout`` holds of ``adapter``. Raises IncompatibleError for a module that does not fit."""
        found: list[Stored] = []
        held: list[tuple[int, int, int, int] | None] = []
        first = start = 0
        for place in layout:
            factors = adapter.modules.get(place.whole.name)
            if factors is None:
                held.append(None)
                continue
            place.check(factors.shape(place.whole.name))
            rows = held_rows(pack(factors, dtype=torch.float32).unsqueeze(0), 0, place)[0]
            found.append(Stored.of(rows, store))
            held.append((factors.rank, len(rows), first, start))
            first, start = first + len(rows), start + found[-1].values.numel()
        values = torch.cat([each.values.flatten() for each in found]) if found else torch.zeros(0)
        scales = [each.scales for each in found if each.scales is not None]
        return cls(layout, store, tuple(held), values, torch.cat(scales) if scales else None)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @property
    def rank(self) -> int:
        return max((held[0] for held in self.held if held is not None), default=0)

    def moved(self, move: Callable[[Tensor], Tensor]) -> RawAdapter:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        return replace(self, values=move(self.values), scales=None if self.scales is None else move(self.scales))

    def rows(self, place: int) -> Tensor | None:
        """The rows of one place ``[rows, r]`` float32; None where the adapter lacks the module."""
        held = self.held[place]
        if held is None:
            return None
        rank, rows, first, start = held
        each = -(-rank // 2) if self.store == "int4" else rank
        values = self.values[start : start + rows * each].view(rows, each)
        return Stored(self.store, rank, values, None if self.scales is None else self.scales[first : first + rows]).float()
