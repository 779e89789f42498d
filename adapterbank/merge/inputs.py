"""What a method sees: the adapters of a merge, module by module, each delta as ``left @ rightᵀ`` in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.merge.core import LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """One module of n adapters: ``ΔW_i = lefts[i] @ rights[i].T``, the scaling folded into ``lefts`` once.

    ``lefts[i]`` is ``[d_out, r_i]`` and ``rights[i]`` ``[d_in, r_i]``, float64. An adapter without this module has
    ``r_i = 0``: its delta is zero. ``rank`` is the largest ``r_i``.
    """

    module: str
    lefts: tuple[Tensor, ...]
    rights: tuple[Tensor, ...]
    rank: int

    def __len__(self) -> int:
        return len(self.lefts)

    @property
    def d_out(self) -> int:
        return int(self.lefts[0].shape[0])

    @property
    def d_in(self) -> int:
        return int(self.rights[0].shape[0])

    def rows(self, index: int, rows: slice) -> Tensor:
        """The rows ``[rows, d_in]`` of adapter ``index``'s dense ΔW."""
        return self.lefts[index][rows] @ self.rights[index].T

    def combine(self, coefficients: Sequence[float]) -> LowRank:
        """``Σ_i coefficients[i]·ΔW_i``, exact: the factors side by side."""
        scaled = [left * c for left, c in zip(self.lefts, coefficients, strict=True)]
        return LowRank(torch.cat(scaled, dim=1), torch.cat(self.rights, dim=1))


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The whole input of a merge, in order of name, so that the order in which adapters were given cannot matter.

    ``names`` are content digests; they key the random streams. Iterating gives one :class:`Stack` per module, in order of
    name, built when asked for; a method that needs a first pass over the whole model iterates twice.
    """

    adapters: tuple[Adapter, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...]
    seed: int
    shapes: Mapping[str, ModuleShape] = field(default_factory=dict)

    @classmethod
    def of(cls, adapters: Sequence[Adapter], weights: Sequence[float], names: Sequence[str], seed: int) -> Inputs:
        """Check and sort. Raises UsageError for counts or weights, IncompatibleError for modules of different shapes."""
        if not adapters:
            raise UsageError("nothing to merge: expected at least one adapter")
        if not len(adapters) == len(weights) == len(names):
            raise UsageError(f"got {len(adapters)} adapters, {len(weights)} weights and {len(names)} names")
        if not all(isfinite(weight) for weight in weights):
            raise UsageError(f"weights must be finite numbers, got {list(weights)}")
        order = sorted(range(len(names)), key=lambda i: (names[i], weights[i]))
        largest = {place.name: place for place in Layout.union(adapter.shapes for adapter in adapters)}  # by ascending rank
        return cls(
            tuple(adapters[i] for i in order),
            tuple(float(weights[i]) for i in order),
            tuple(names[i] for i in order),
            seed,
            dict(sorted(largest.items())),
        )

    def __len__(self) -> int:
        return len(self.adapters)

    def __iter__(self) -> Iterator[Stack]:
        return (self.stack(module) for module in self.shapes)

    def alone(self, index: int) -> Inputs:
        """The same modules with adapter ``index`` only."""
        pick = slice(index, index + 1)
        return Inputs(self.adapters[pick], self.weights[pick], self.names[pick], self.seed, self.shapes)

    def stack(self, module: str) -> Stack:
        """The factors of ``module`` of every adapter, in float64 copies."""
        shape = self.shapes[module]
        lefts, rights = [], []
        for adapter in self.adapters:
            factors = adapter.modules.get(module)
            if factors is None:
                lefts.append(torch.zeros(shape.d_out, 0, dtype=torch.float64))
                rights.append(torch.zeros(shape.d_in, 0, dtype=torch.float64))
            else:
                lefts.append(factors.B.detach().to("cpu", torch.float64) * factors.scaling)
                rights.append(factors.A.detach().to("cpu", torch.float64).T.clone(memory_format=torch.contiguous_format))
        return Stack(module, tuple(lefts), tuple(rights), shape.rank)


def common_extras(inputs: Inputs) -> Mapping[str, Tensor]:
    """Copies of the tensors beside the factors, if every adapter has the same ones; else IncompatibleError names them."""
    first = inputs.adapters[0].extras
    differing = sorted(
        {
            name
            for adapter in inputs.adapters[1:]
            for name in {*first, *adapter.extras}
            if name not in first or name not in adapter.extras or not torch.equal(first[name], adapter.extras[name])
        }
    )
    if differing:
        raise IncompatibleError(
            f"tensors that are no LoRA factors differ between the adapters and cannot be merged: {', '.join(differing)}"
        )
    return {name: tensor.clone() for name, tensor in first.items()}  # the inputs may be views of files that get closed
