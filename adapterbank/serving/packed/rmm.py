"""A basis of Reversible Model Merging as it is resident, and a member's coefficients over it (arXiv 2510.14163).

A place of the buffer has a segment for every rank at which the basis holds its module; a member uses one of them. Segments lie
one after the other, in the order of the places. Row j of a segment holds the mean and p components of one position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.rmm.objects import Basis, Member
from adapterbank.serving.packed.stored import Stored
from adapterbank.serving.slots import Place, SlotLayout

Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Segment:
    """One place at one rank: its first row among all, and where its values begin in each line of ``values``."""

    place: int
    rank: int
    rows: int
    first: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class ResidentBasis:
    """``values [1 + p, …]`` and ``scales [1 + p, rows]``: the mean, then p components, each line all segments one after the
    other as :class:`Stored` has them."""

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
                first, start = first + rows.shape[1], start + found[-1].values[0].numel()
        values = [each.values.flatten(1) for each in found]
        scales = [each.scales for each in found if each.scales is not None]
        empty = torch.zeros(1 + p, 0)
        return cls(
            layout,
            store,
            tuple(segments),
            torch.cat(values, dim=1) if values else empty,
            torch.cat(scales, dim=1) if scales else None,
        )

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
        scales = None if self.scales is None else self.scales[:, segment.first : segment.first + segment.rows]
        return Stored(self.store, segment.rank, values, scales).float()


@dataclass(frozen=True, slots=True, eq=False)
class ResidentMember:
    """``coefficients [rows, p]`` of the modules that a member has, in the order of the places. ``held[i]`` is the index of the
    segment that place i is written from and the first row of its coefficients, or None where the member lacks the module."""

    coefficients: Tensor
    held: tuple[tuple[int, int] | None, ...]

    @classmethod
    def of(cls, member: Member, basis: ResidentBasis) -> ResidentMember:
        """The coefficients of ``member`` as they are stored."""
        segments = {(segment.place, segment.rank): number for number, segment in enumerate(basis.segments)}
        parts: list[Tensor] = []
        held: list[tuple[int, int] | None] = []
        first = 0
        own = {shape.name: block for block in member.layout.classes for shape in block.modules}
        for index, place in enumerate(basis.layout):
            block = own.get(place.whole.name)
            if block is None:
                held.append(None)
                continue
            shape = next(shape for shape in block.modules if shape.name == place.whole.name)
            rows = held_rows(member.coefficients[block.rank].unsqueeze(0), block.rows_of(shape).start, place)[0]
            parts.append(torch.nn.functional.pad(rows, (0, basis.p - rows.shape[1])))
            held.append((segments[index, block.rank], first))
            first += len(rows)
        return cls(torch.cat(parts) if parts else torch.zeros(0, basis.p), tuple(held))

    @property
    def nbytes(self) -> int:
        return self.coefficients.nbytes

    def moved(self, move: Move) -> ResidentMember:
        """The same after ``move`` of its coefficients."""
        return replace(self, coefficients=move(self.coefficients))


@dataclass(frozen=True, slots=True, eq=False)
class RmmAdapter:
    """A member with its basis: an adapter that can be written."""

    basis: ResidentBasis
    member: ResidentMember

    @property
    def layout(self) -> SlotLayout:
        return self.basis.layout

    @property
    def nbytes(self) -> int:
        """Of the member alone: the basis is shared."""
        return self.member.nbytes

    @property
    def rank(self) -> int:
        return max((self.basis.segments[held[0]].rank for held in self.member.held if held is not None), default=0)

    def moved(self, move: Move) -> RmmAdapter:
        """The same after ``move`` of the member; the basis stays where it is."""
        return replace(self, member=self.member.moved(move))

    def rows(self, place: int) -> Tensor | None:
        """μ + Σ_k c_k·b_k of one place ``[rows, r]`` float32, added in this order; None where the member lacks the module."""
        held = self.member.held[place]
        if held is None:
            return None
        segment = self.basis.segments[held[0]]
        mean, *components = self.basis.rows(segment)
        coefficients = self.member.coefficients[held[1] : held[1] + segment.rows].float()
        total: Tensor = mean.clone()
        for k, component in enumerate(components):
            total = torch.addcmul(total, coefficients[:, k : k + 1], component)
        return total


def held_rows(rows: Tensor, start: int, place: Place) -> Tensor:
    """Of ``rows [k, …, c]``, in which a module's begin at ``start``, those that ``place`` holds: of B, then of A."""
    into = start + place.whole.d_out
    of_B = rows[:, start + place.out.start : start + place.out.stop]
    return torch.cat([of_B, rows[:, into + place.into.start : into + place.into.stop]], dim=1)
