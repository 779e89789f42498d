"""The fixed-width codes of an adapter as they are resident: the words of the coded form itself, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.codecs.fixed import FixedForm, planes
from adapterbank.errors import IncompatibleError
from adapterbank.serving.slots import SlotLayout


@dataclass(frozen=True, slots=True)
class Side:
    """B or A of one place: rows ``first`` to ``first + rows`` of a matrix of words ``[groups, pitch]`` that begins at
    ``start``; component k has ``widths[k]`` planes from column ``columns[k]`` on, and its scale at ``scale + k``."""

    first: int
    rows: int
    start: int
    pitch: int
    scale: int
    widths: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FixedAdapter:
    """``words [w]`` int32 and ``scales [2·n]`` bfloat16 of a form; ``held[i]`` are the two sides of place i, or None."""

    layout: SlotLayout
    words: Tensor
    scales: Tensor
    held: tuple[tuple[Side, Side] | None, ...]

    @classmethod
    def of(cls, form: FixedForm, layout: SlotLayout) -> FixedAdapter:
        """What ``layout`` holds of ``form``: for a shard only the words that its rows need.

        Raises IncompatibleError for a module that does not fit.
        """
        index = {shape.name: number for number, shape in enumerate(form.shapes)}
        parts: list[Tensor] = []
        held: list[tuple[Side, Side] | None] = []
        for place in layout:
            number = index.get(place.whole.name)
            if number is None:
                held.append(None)
                continue
            shape = form.shapes[number]
            live = form.places.components(number)
            place.check(replace(shape, rank=live.stop - live.start))
            start = sum(len(part) for part in parts)
            sides = []
            for side, rows in enumerate((place.out, place.into)):
                made, words = _side(form, side, number, rows, start)
                parts.append(words)
                sides.append(made)
                start += len(words)
            held.append((sides[0], sides[1]))
        words = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int32)
        return cls(layout, words, form.scales.flatten().contiguous(), tuple(held))

    @property
    def nbytes(self) -> int:
        return self.words.nbytes + self.scales.nbytes

    @property
    def rank(self) -> int:
        return max((len(held[0].widths) for held in self.held if held is not None), default=0)

    def moved(self, move: Callable[[Tensor], Tensor]) -> FixedAdapter:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        return replace(self, words=move(self.words), scales=move(self.scales))

    def rows(self, place: int) -> Tensor | None:
        """The rows of one place ``[rows, live]`` float32; None where the adapter lacks the module."""
        held = self.held[place]
        return None if held is None else torch.cat([self._rows(side) for side in held])

    def _rows(self, side: Side) -> Tensor:
        high = planes.groups(side.first + side.rows)
        words = self.words[side.start : side.start + high * side.pitch].view(high, side.pitch)
        widths = torch.tensor(side.widths, dtype=torch.uint8, device=words.device)
        codes = planes.unpack(words, widths, side.first + side.rows)[:, side.first :]
        return planes.values(codes, widths, self.scales[side.scale : side.scale + len(side.widths)]).T


def _side(form: FixedForm, side: int, number: int, rows: range, start: int) -> tuple[Side, Tensor]:
    """One side of a module, and its words from the group of the first row that is held to that of the last."""
    at, live = form.places, form.places.components(number)
    pitch, begin = int(at.pitches[side, number]), int(at.offsets[side, number])
    low, high = rows.start // planes.GROUP, planes.groups(rows.stop)
    made = Side(
        rows.start - low * planes.GROUP, len(rows), start, pitch, side * form.scales.shape[1] + live.start,
        tuple(form.widths[side, live].tolist()), tuple(at.columns[side, live].tolist()),
    )  # fmt: skip
    if len(made.columns) and made.columns[0] != 0:
        raise IncompatibleError(f"the planes of module {form.shapes[number].name!r} do not begin at its first word")
    return made, form.words[begin + low * pitch : begin + high * pitch]
