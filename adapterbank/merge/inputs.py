"""What a method sees: the adapters of a merge, module by module, each delta as ``left @ rightᵀ`` in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import get_args

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.merge.artefacts import Coefficients, Statistics
from adapterbank.merge.conditions import Absent, Conditions
from adapterbank.merge.preparation import prepared
from adapterbank.merge.stack import Stack


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The whole input of a merge. ``names`` are content digests; they key the random streams.

    Adapters are in order of name, so that the order in which they were given cannot matter, unless the method is sequential.
    Iterating gives one :class:`Stack` per module, in order of name, built when asked for; a method that needs a first pass
    over the whole model iterates twice. ``schedules`` holds weights by module where they are not ``weights``.
    """

    adapters: tuple[Adapter, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...]
    seed: int
    shapes: Mapping[str, ModuleShape] = field(default_factory=dict)
    schedules: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        adapters: Sequence[Adapter],
        weights: Sequence[float],
        names: Sequence[str],
        seed: int,
        conditions: Conditions | None = None,
        *,
        ordered: bool = False,
        device: str = "cpu",
    ) -> Inputs:
        """Check and sort (not if ``ordered``: then the order given is that of the merge); stacks are made on ``device``.

        Raises UsageError for counts or weights, IncompatibleError for modules of different shapes, or with
        ``absent="refuse"`` for a module that an adapter lacks.
        """
        given = conditions or Conditions()
        _check(len(adapters), names, [weights, *given.schedules.values()], given.absent)
        order = list(range(len(names))) if ordered else sorted(range(len(names)), key=lambda i: (names[i], weights[i]))
        largest = {place.name: place for place in Layout.union(adapter.shapes for adapter in adapters)}  # by ascending rank
        if given.absent == "refuse":
            _refuse_absent(adapters, names, largest)
        return cls(
            tuple(adapters[i] for i in order),
            tuple(float(weights[i]) for i in order),
            tuple(names[i] for i in order),
            seed,
            dict(sorted(largest.items())),
            {module: tuple(float(own[i]) for i in order) for module, own in given.schedules.items()},
            given,
            device,
        )

    @property
    def statistics(self) -> Mapping[str, Mapping[str, Statistics]]:
        """What is known of each adapter's data, by kind and adapter name."""
        return self.conditions.statistics

    @property
    def coefficients(self) -> Coefficients | None:
        """What was learned for these adapters."""
        return self.conditions.coefficients

    def __len__(self) -> int:
        return len(self.adapters)

    def __iter__(self) -> Iterator[Stack]:
        return (self.stack(module) for module in self.shapes)

    def stack(self, module: str) -> Stack:
        """The factors of ``module`` of every adapter, in float64 copies, prepared."""
        return prepared(self.original(module), self.conditions.prepare)

    def original(self, module: str) -> Stack:
        """The same before any preparation."""
        shape = self.shapes[module]
        weights = self.schedules.get(module, self.weights)
        found = [adapter.modules.get(module) for adapter in self.adapters]
        held = [i for i, factors in enumerate(found) if factors is not None or self.conditions.absent != "renormalize"]
        if len(held) < len(found):
            weights = _renormalized(weights, held)
        sides = [_sides(found[i], shape, self.device) for i in held]
        return Stack(
            module,
            tuple(self.names[i] for i in held),
            tuple(weights[i] for i in held),
            tuple(left for left, _ in sides),
            tuple(right for _, right in sides),
            shape.rank,
            self.seed,
            tuple(held),
            _precision([found[i] for i in held]),
        )


def _check(count: int, names: Sequence[str], weights: Sequence[Sequence[float]], absent: str) -> None:
    if not count:
        raise UsageError("nothing to merge: expected at least one adapter")
    for own in weights:
        if not count == len(own) == len(names):
            raise UsageError(f"got {count} adapters, {len(own)} weights and {len(names)} names")
        if not all(isfinite(weight) for weight in own):
            raise UsageError(f"weights must be finite numbers, got {list(own)}")
    if absent not in get_args(Absent):
        raise UsageError(f"absent: got {absent!r}, expected one of {', '.join(get_args(Absent))}")


def _refuse_absent(adapters: Sequence[Adapter], names: Sequence[str], modules: Mapping[str, ModuleShape]) -> None:
    for adapter, name in zip(adapters, names, strict=True):
        lacking = sorted(modules.keys() - adapter.modules.keys())
        if lacking:
            raise IncompatibleError(
                f"adapter {name[:12]} lacks {len(lacking)} of {len(modules)} modules, among them {lacking[0]!r}",
                hint="--absent zero counts them as zero, --absent renormalize leaves the adapter out there",
            )


def _renormalized(weights: Sequence[float], held: Sequence[int]) -> tuple[float, ...]:
    """Weights of the same sum when only ``held`` of the adapters are there; as they were where that sum would be 0."""
    present, total = sum(weights[i] for i in held), sum(weights)
    return tuple(weight * total / present for weight in weights) if present and total else tuple(weights)


def _precision(found: Sequence[Factors | None]) -> torch.dtype:
    """In which dense entries are computed: float32 unless some factors came in more."""
    widths = [tensor.dtype.itemsize for factors in found if factors is not None for tensor in (factors.A, factors.B)]
    return torch.float64 if any(width > torch.float32.itemsize for width in widths) else torch.float32


def _sides(factors: Factors | None, shape: ModuleShape, device: str) -> tuple[Tensor, Tensor]:
    if factors is None:
        empty = torch.zeros(0, dtype=torch.float64, device=device)
        return empty.new_zeros(shape.d_out, 0), empty.new_zeros(shape.d_in, 0)
    left = factors.B.detach().to(device, torch.float64) * factors.scaling
    return left, factors.A.detach().to(device, torch.float64).T.clone(memory_format=torch.contiguous_format)


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
