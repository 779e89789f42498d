"""The layout: every LoRA factor of a set of modules as rows of one matrix.

A row is one *position* in the sense of RMM (arXiv 2510.14163): a row of ``lora_B`` or a column of ``lora_A``. Modules of
equal rank form a rank class, one block ``[D_c, r_c]``; within a module the ``d_out`` rows of B come first, then the
``d_in`` columns of A. This module holds numbers and names only (no torch), so the catalog may use it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import cached_property

from adapterbank.errors import IncompatibleError


@dataclass(frozen=True, slots=True, order=True)
class ModuleShape:
    """A module at one rank. ``kind`` is ``linear``, ``embedding``, ``conv`` or ``expert``; ``kernel`` the conv's window.

    ``d_in`` counts the columns of A: for a conv the input channels times the window, for an embedding the vocabulary.
    """

    name: str
    d_out: int
    d_in: int
    rank: int
    kind: str = "linear"
    kernel: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return self.d_out + self.d_in

    @property
    def parameters(self) -> int:
        return self.rank * self.rows


@dataclass(frozen=True)
class RankClass:
    """The modules of one rank, in order of name, and where each one's rows begin in the block ``[D_c, r_c]``."""

    rank: int
    modules: tuple[ModuleShape, ...]

    @cached_property
    def offsets(self) -> dict[str, int]:
        starts, at = {}, 0
        for module in self.modules:
            starts[module.name] = at
            at += module.rows
        return starts

    @cached_property
    def rows(self) -> int:
        return sum(module.rows for module in self.modules)

    def rows_of(self, module: ModuleShape) -> slice:
        start = self.offsets[module.name]
        return slice(start, start + module.rows)


@dataclass(frozen=True)
class Layout:
    """Rank classes in ascending order of rank. A module that members hold at two ranks has a place in two classes."""

    classes: tuple[RankClass, ...]

    @classmethod
    def union(cls, collections: Iterable[Iterable[ModuleShape]]) -> Layout:
        """The layout that has a place for every module of every adapter.

        Raises IncompatibleError if one module name comes with different dimensions or kinds.
        """
        seen: dict[str, ModuleShape] = {}
        places: set[ModuleShape] = set()
        for shapes in collections:
            for shape in shapes:
                first = seen.setdefault(shape.name, shape)
                if (first.d_out, first.d_in, first.kind, first.kernel) != (shape.d_out, shape.d_in, shape.kind, shape.kernel):
                    raise IncompatibleError(
                        f"module {shape.name!r} has different shapes: {_describe(first)} here, {_describe(shape)} there"
                    )
                places.add(shape)
        ranks = sorted({place.rank for place in places})
        return cls(tuple(RankClass(rank, tuple(sorted(p for p in places if p.rank == rank))) for rank in ranks))

    @classmethod
    def of(cls, shapes: Iterable[ModuleShape]) -> Layout:
        """The layout of one adapter."""
        return cls.union([shapes])

    def __iter__(self) -> Iterator[ModuleShape]:
        return (module for block in self.classes for module in block.modules)

    def __getitem__(self, rank: int) -> RankClass:
        return next(block for block in self.classes if block.rank == rank)

    @property
    def parameters(self) -> int:
        return sum(module.parameters for module in self)

    def to_json(self) -> str:
        """Canonical JSON: equal layouts give equal text, whatever order they were built in."""
        return json.dumps([astuple(module) for module in self], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Layout:
        return cls.of_places(ModuleShape(n, o, i, r, kind, tuple(k)) for n, o, i, r, kind, k in json.loads(text))

    @classmethod
    def of_places(cls, places: Iterable[ModuleShape]) -> Layout:
        """The layout with exactly these places, a name possibly at several ranks."""
        return cls.union([[place] for place in places])


def _describe(shape: ModuleShape) -> str:
    return f"{shape.d_out}×{shape.d_in} {shape.kind}"
