"""A basis of Reversible Model Merging as it is resident, and a member's coefficients over it (arXiv 2510.14163).

A place of the buffer has a segment for every rank at which the basis holds its module; a member uses one of them. Segments lie
one after the other, in the order of the places. Row j of a segment holds the mean and p components of one position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

from adapterbank.rmm.objects import Basis, Member
from adapterbank.serving.packed.groups import GROUP, grouped, lines
from adapterbank.serving.packed.stored import Stored
from adapterbank.serving.slots import Place, SlotLayout

Move = Callable[[Tensor], Tensor]
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """One place at one rank: its first row among all (the first of a group), and where its values begin in each line."""

    place: int
    rank: int
    rows: int
    first: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class ResidentBasis:
    """The mean, then p components: ``values [1 + p, …]``, each line all segments one after the other as :class:`Stored` has
    them, and some zeros; ``scales [groups, 1 + p, 32]``, the rows of each segment
    :func:`~adapterbank.serving.packed.groups.grouped`.
    """

    layout: SlotLayout
    store: str
    segments: tuple[Segment, ...]
    values: Tensor
    scales: Tensor | None

    @classmethod
    def of(cls, basis: Basis, layout: SlotLayout, store: str) -> ResidentBasis:
        """The rows of ``basis`` that ``layout`` holds, as ``store``.

        Raises IncompatibleError for a module that the buffer has at a smaller rank, or in another shape.
        """
        p = max((len(parts) for parts in basis.components.values()), default=0)
        found, segments, first, start = [], [], 0, 0
        for index, place in enumerate(layout):
            for block in basis.layout.classes:
                shape = next((shape for shape in block.modules if shape.name == place.whole.name), None)
                if shape is None:
                    continue
                place.check(shape)
                both = torch.cat([basis.mean[block.rank].unsqueeze(0), basis.components[block.rank]])
                rows = held_rows(both, block.rows_of(shape).start, place)
                rows = torch.nn.functional.pad(rows.float(), (0, 0, 0, 0, 0, 1 + p - len(rows)))
                found.append(Stored.of(rows, store))
                segments.append(Segment(index, block.rank, rows.shape[1], first, start))
                first, start = first + -(-rows.shape[1] // GROUP) * GROUP, start + found[-1].values[0].numel()
        values = apart(torch.cat([each.values.flatten(1) for each in found], dim=1)) if found else torch.zeros(1 + p, 0)
        scales = [grouped(each.scales) for each in found if each.scales is not None]
        return cls(layout, store, tuple(segments), values, torch.cat(scales) if scales else None)

    def segment(self, module: str, rank: int) -> Segment:
        """The segment of a module at a rank."""
        return next(each for each in self.segments if each.rank == rank and self.layout.places[each.place].whole.name == module)

    @property
    def p(self) -> int:
        return len(self.values) - 1

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def moved(self, move: Move) -> ResidentBasis:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        return replace(self, values=move(self.values), scales=None if self.scales is None else move(self.scales))

    def rows(self, segment: Segment) -> Tensor:
        """Mean and components of one segment as float32 ``[1 + p, rows, rank]``, exactly as kernels see them."""
        each = -(-segment.rank // 2) if self.store == "int4" else segment.rank
        values = self.values[:, segment.start : segment.start + segment.rows * each].reshape(-1, segment.rows, each)
        scales = None if self.scales is None else lines(self.scales, segment.first, segment.rows)
        return Stored(self.store, segment.rank, values, scales).float()


@dataclass(frozen=True, slots=True, eq=False)
class RmmAdapter:
    """A member over a resident basis: ``coefficients [groups, p, 32]`` of the modules that it has, in the order of the places,
    each one's rows :func:`~adapterbank.serving.packed.groups.grouped`.

    ``table [places, 4]`` int64 says of each place where the values of its segment begin and the segment's first row, its rank
    (ABSENT where the member lacks the module), and its first row among the coefficients. ``rank`` is the largest, ``align``
    their :func:`alignment`. ``into`` is the layout of the buffers, if it is not the one that the basis was laid out for.
    """

    basis: ResidentBasis
    coefficients: Tensor
    table: Tensor
    rank: int
    align: int = 1
    into: SlotLayout | None = None

    @classmethod
    def of(cls, member: Member, basis: ResidentBasis, layout: SlotLayout | None = None) -> RmmAdapter:
        """The coefficients of ``member``, copied, for buffers of ``layout`` (default: the basis's own).

        Another layout has the same modules, perhaps of larger ranks, and more of them; not another shard.
        """
        segments = {(basis.layout.places[each.place].whole.name, each.rank): each for each in basis.segments}
        own = {shape.name: (block, shape) for block in member.layout.classes for shape in block.modules}
        parts: list[Tensor] = []
        table: list[list[int]] = []
        first = 0
        for place in layout or basis.layout:
            if place.whole.name not in own:
                table.append([0, 0, ABSENT, 0])
                continue
            block, shape = own[place.whole.name]
            place.check(shape)
            rows = held_rows(member.coefficients[block.rank].unsqueeze(0), block.rows_of(shape).start, place)[0]
            parts.append(grouped(torch.nn.functional.pad(rows, (0, basis.p - rows.shape[1])).T))
            segment = segments[shape.name, block.rank]
            table.append([segment.start, segment.first, segment.rank, first])
            first += GROUP * len(parts[-1])
        coefficients = torch.cat(parts) if parts else torch.zeros(0, basis.p, GROUP)
        rank = max((row[2] for row in table), default=0)
        return cls(basis, coefficients, torch.tensor(table).view(-1, 4), max(rank, 0), alignment(table), layout)

    @property
    def layout(self) -> SlotLayout:
        return self.basis.layout if self.into is None else self.into

    @property
    def nbytes(self) -> int:
        """Of the member alone: the basis is shared."""
        return self.coefficients.nbytes + self.table.nbytes

    def moved(self, move: Move) -> RmmAdapter:
        """The same after ``move`` of the member's tensors; the basis stays where it is."""
        return replace(self, coefficients=move(self.coefficients), table=move(self.table))

    def held(self, place: int) -> tuple[Segment, Tensor] | None:
        """The segment that a place is written from, and the coefficients ``[p, rows]``; None for an absent module."""
        _, _, rank, first = self.table[place].tolist()
        if rank == ABSENT:
            return None
        segment = self.basis.segment(self.layout.places[place].whole.name, rank)
        return segment, lines(self.coefficients, first, segment.rows)

    def rows(self, place: int) -> Tensor | None:
        """μ + Σ_k c_k·b_k of one place ``[rows, r]`` float32, added in this order; None where the member lacks the module."""
        held = self.held(place)
        if held is None:
            return None
        segment, coefficients = held
        mean, *components = self.basis.rows(segment)
        total: Tensor = mean.clone()
        for factors, component in zip(coefficients.float(), components, strict=True):
            total = torch.addcmul(total, factors.unsqueeze(1), component)
        return total


def apart(values: Tensor) -> Tensor:
    """With up to a page of zeros at the end of each line that is longer than a hundred, so that the same row of all lines does
    not fall on the same places of a cache: a model's sizes are powers of two, or nearly."""
    page, step = 4096 // values.element_size(), 320 // values.element_size()
    return torch.nn.functional.pad(values, (0, (step - values.shape[1]) % page)) if values.shape[1] > 100 * page else values


def alignment(table: Sequence[Sequence[int]]) -> int:
    """The largest power of two up to 16 that divides where every place's values begin, and its rank: for wide reads."""
    return gcd(16, *(number for start, _, rank, _ in table if rank > 0 for number in (start, rank)))


def held_rows(rows: Tensor, start: int, place: Place) -> Tensor:
    """Of ``rows [k, …, c]``, in which a module's begin at ``start``, those that ``place`` holds: of B, then of A."""
    into = start + place.whole.d_out
    of_B = rows[:, start + place.out.start : start + place.out.stop]
    return torch.cat([of_B, rows[:, into + place.into.start : into + place.into.stop]], dim=1)
