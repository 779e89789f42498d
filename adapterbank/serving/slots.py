"""The flat buffer that an adapter is written into: one place per module, all LoRA parameters of a model views of it.

A place is a block ``[d_out + d_in, rank]``, row-major: the rows of B, then the columns of A as rows, as in
:mod:`~adapterbank.lora.layout`. Places lie in order of rank and name without gaps, so those of one rank are one block
``[D_c, r_c]``. A tensor-parallel worker holds a shard: some rows of B or of A of each module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.lora.layout import Layout, ModuleShape

Parallel = Literal["column", "row"]
Plan = Mapping[str, Parallel]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LLAMA: Plan = {
    "*.q_proj": "column", "*.k_proj": "column", "*.v_proj": "column", "*.gate_proj": "column", "*.up_proj": "column",
    "*.o_proj": "row", "*.down_proj": "row",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One module in the buffer, from element ``offset`` on. ``whole`` is the module as adapters have it, its rank that of
    the buffer; ``out`` are the rows of B that are held here, ``into`` those of A (as rows)."""

    whole: ModuleShape
    offset: int
    out: range
    into: range

    @property
    def shape(self) -> ModuleShape:
        """The module as it is here: all of it, or a shard's part."""
        return replace(self.whole, d_out=len(self.out), d_in=len(self.into))

    @property
    def size(self) -> int:
        """Elements."""
        return self.whole.rank * (len(self.out) + len(self.into))

    def check(self, shape: ModuleShape) -> None:
        """IncompatibleError unless an adapter's module of this ``shape`` fits."""
        if (shape.d_out, shape.d_in) != (self.whole.d_out, self.whole.d_in) or shape.rank > self.whole.rank:
            raise IncompatibleError(
                f"module {shape.name!r} is {shape.d_out}×{shape.d_in} of rank {shape.rank}, the buffer has "
                f"{self.whole.d_out}×{self.whole.d_in} of rank {self.whole.rank}"
            )


@dataclass(frozen=True)
class SlotLayout:
    """The places of a buffer of ``size`` elements, in order of rank and name."""

    places: tuple[Place, ...]

    @classmethod
    def of(cls, shapes: Iterable[ModuleShape], rank: int | None = None) -> SlotLayout:
        """One place for every module among ``shapes``, of the largest rank it has there, or of ``rank`` for all.

        Raises IncompatibleError for a module of two shapes, or of a rank above ``rank``.
        """
        largest = {shape.name: shape for shape in Layout.union([shape] for shape in shapes)}  # by ascending rank
        for shape in largest.values():
            if rank is not None and shape.rank > rank:
                raise IncompatibleError(f"module {shape.name!r} has rank {shape.rank}, the buffer rank {rank}")
        return cls._laid_out(
            (shape if rank is None else replace(shape, rank=rank), range(shape.d_out), range(shape.d_in))
            for shape in largest.values()
        )

    @classmethod
    def _laid_out(cls, parts: Iterable[tuple[ModuleShape, range, range]]) -> SlotLayout:
        places, at = [], 0
        for whole, out, into in sorted(parts, key=lambda part: (part[0].rank, part[0].name)):
            places.append(Place(whole, at, out, into))
            at += places[-1].size
        return cls(tuple(places))

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    def __getitem__(self, name: str) -> Place:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Place]:
        return {place.whole.name: place for place in self.places}

    @cached_property
    def size(self) -> int:
        """Elements of a buffer."""
        return sum(place.size for place in self.places)

    @cached_property
    def cached(self) -> dict[Any, Any]:
        """What a backend keeps with the layout: tables on a device."""
        return {}

    @cached_property
    def table(self) -> Tensor:
        """``[places, 4]`` int64: of each place its offset, its rows of B, its rows in all, its rank."""
        rows = [[place.offset, len(place.out), place.shape.rows, place.whole.rank] for place in self.places]
        return torch.tensor(rows, dtype=torch.int64).view(-1, 4)

    def views(self, buffer: Tensor) -> dict[str, Factors]:
        """The factors of every module as views of ``buffer [size]``, scaling 1: B is contiguous, A a transposed block.

        Raises UsageError if the buffer is not flat, contiguous and of this size.
        """
        self.check(buffer)
        found = {}
        for place in self.places:
            shape = place.shape
            rows = buffer[place.offset : place.offset + place.size].view(shape.rows, shape.rank)
            found[shape.name] = Factors(A=rows[shape.d_out :].T, B=rows[: shape.d_out], kind=shape.kind, kernel=shape.kernel)
        return found

    def check_holds(self, shape: ModuleShape) -> None:
        """IncompatibleError unless an adapter's module of this ``shape`` has a place."""
        if shape.name not in self:
            raise IncompatibleError(f"the buffer has no place for module {shape.name!r}: it has {len(self.places)} others")
        self[shape.name].check(shape)

    def check(self, buffer: Tensor) -> None:
        """UsageError unless ``buffer`` is one that this layout fills."""
        if buffer.ndim != 1 or len(buffer) != self.size or not buffer.is_contiguous():
            raise UsageError(f"buffer: got {list(buffer.shape)}, expected a contiguous one of [{self.size}]")

    def check_target(self, buffer: Tensor, device: torch.device) -> None:
        """UsageError unless ``buffer`` can be written: one that this layout fills, on ``device``, of one of ``DTYPES``."""
        if not isinstance(buffer, Tensor):
            raise UsageError(f"buffer: got a {type(buffer).__name__}, expected a tensor")
        if buffer.dtype not in DTYPES or buffer.device != device:
            got, *known = (str(dtype).removeprefix("torch.") for dtype in (buffer.dtype, *DTYPES))
            raise UsageError(f"buffer: got {got} on {buffer.device}, expected {' or '.join(known)} on {device}")
        self.check(buffer)

    @cached_property
    def whole(self) -> bool:
        """Whether it holds whole modules, no shard of them."""
        return all(place.shape == place.whole for place in self.places)

    def shard(self, rank: int, size: int, plan: Plan = LLAMA) -> SlotLayout:
        """What worker ``rank`` of ``size`` holds.

        ``plan`` says by pattern of the module's name how its weight is split: ``column`` (over its outputs: rows of B, all of
        A) or ``row`` (over its inputs: rows of A, all of B); the first that fits counts, and what fits none is held whole.
        Raises UsageError for a worker that is none or a plan that splits nothing, IncompatibleError where ``size`` does not
        divide a dimension.
        """
        if size < 1:
            raise UsageError(f"shard: got {size} workers, expected at least 1")
        if not 0 <= rank < size:
            raise UsageError(f"shard: got worker {rank} of {size}, expected one of 0 to {size - 1}")
        check_plan(plan)
        hows = [
            next((how for pattern, how in plan.items() if fnmatchcase(place.whole.name, pattern)), None)
            for place in self.places
        ]
        if size > 1 and self.places and not any(hows):
            raise UsageError(
                f"shard: the plan splits none of the {len(hows)} modules, such as {self.places[0].whole.name!r}",
                hint="say how modules are split: plan={'*.query': 'column', '*.output.dense': 'row'}",
            )
        return self._laid_out(self._part(place, rank, size, how) for place, how in zip(self.places, hows, strict=True))

    @staticmethod
    def _part(place: Place, rank: int, size: int, how: Parallel | None) -> tuple[ModuleShape, range, range]:
        if how == "column":
            return place.whole, _split(place, place.out, rank, size), place.into
        if how == "row":
            return place.whole, place.out, _split(place, place.into, rank, size)
        return place.whole, place.out, place.into


def check_plan(plan: Plan) -> None:
    """UsageError unless each pattern is said to be split by ``column`` or ``row``."""
    for pattern, how in plan.items():
        if how not in ("column", "row"):
            raise UsageError(f"plan: got {how!r} for {pattern!r}, expected 'column' or 'row'")


def _split(place: Place, rows: range, rank: int, size: int) -> range:
    if len(rows) % size:
        raise IncompatibleError(f"module {place.whole.name!r}: {len(rows)} rows cannot be split over {size} workers")
    each = len(rows) // size
    return rows[rank * each : (rank + 1) * each]
