"""The fixed-width codes of an adapter as they are resident: the words of the coded form itself, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.codecs.fixed import FixedForm, planes
from adapterbank.serving.packed.rmm import ABSENT
from adapterbank.serving.slots import SlotLayout


@dataclass(frozen=True, slots=True, eq=False)
class FixedAdapter:
    """``words [w]`` int32; for each of n components on side 0 (B) and 1 (A) ``widths [2, n]`` uint8, ``columns [2, n]`` int32
    and ``scales [2, n]`` bfloat16.

    ``table [places, 6]`` int64 says of each place: its first component and how many it has (ABSENT: the adapter lacks the
    module), then for B and for A where its matrix of words ``[groups, pitch]`` begins and which row of it is the first that is
    held. ``pitches [places, 2]`` are the words of a group. ``rank`` is the largest number of components, ``widest`` the largest
    width.
    """

    layout: SlotLayout
    words: Tensor
    widths: Tensor
    columns: Tensor
    scales: Tensor
    table: Tensor
    pitches: Tensor
    rank: int
    widest: int

    @classmethod
    def of(cls, form: FixedForm, layout: SlotLayout) -> FixedAdapter:
        """What ``layout`` holds of ``form``: for a shard only the words that its rows need.

        Raises IncompatibleError for a module that does not fit.
        """
        index = {shape.name: number for number, shape in enumerate(form.shapes)}
        parts: list[Tensor] = []
        table, pitches, begin, rank = [], [], 0, 0
        for place in layout:
            number = index.get(place.whole.name)
            if number is None:
                table.append([0, ABSENT, 0, 0, 0, 0])
                pitches.append([0, 0])
                continue
            live = form.places.components(number)
            count = live.stop - live.start
            place.check(replace(form.shapes[number], rank=count))
            entry, rank = [live.start, count], max(rank, count)
            for side, rows in enumerate((place.out, place.into)):
                words = _words(form, side, number, rows)
                entry += [begin, rows.start % planes.GROUP]
                parts.append(words)
                begin += len(words)
            table.append(entry)
            pitches.append(form.places.pitches[:, number].tolist())
        return cls(
            layout, torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int32), form.widths.clone(),
            form.places.columns.to(torch.int32), form.scales.clone(), torch.tensor(table).view(-1, 6),
            torch.tensor(pitches).view(-1, 2), rank, int(form.widths.max()) if form.widths.numel() else 0,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in (self.words, self.widths, self.columns, self.scales, self.table, self.pitches))

    def moved(self, move: Callable[[Tensor], Tensor]) -> FixedAdapter:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        return replace(
            self, words=move(self.words), widths=move(self.widths), columns=move(self.columns), scales=move(self.scales),
            table=move(self.table), pitches=move(self.pitches),
        )  # fmt: skip

    def rows(self, place: int) -> Tensor | None:
        """The rows of one place ``[rows, live]`` float32; None where the adapter lacks the module."""
        first, count, *sides = self.table[place].tolist()
        if count == ABSENT:
            return None
        held = self.layout.places[place]
        parts = []
        for side, rows in enumerate((held.out, held.into)):
            begin, skip = sides[2 * side : 2 * side + 2]
            high, pitch = planes.groups(skip + len(rows)), int(self.pitches[place, side])
            words = self.words[begin : begin + high * pitch].view(high, pitch)
            widths = self.widths[side, first : first + count]
            codes = planes.unpack(words, widths, skip + len(rows))[:, skip:]
            parts.append(planes.values(codes, widths, self.scales[side, first : first + count]).T)
        return torch.cat(parts)


def _words(form: FixedForm, side: int, number: int, rows: range) -> Tensor:
    """The words of one side of a module, from the group of the first row that is held to that of the last."""
    pitch, begin = int(form.places.pitches[side, number]), int(form.places.offsets[side, number])
    return form.words[begin + rows.start // planes.GROUP * pitch : begin + planes.groups(rows.stop) * pitch]
