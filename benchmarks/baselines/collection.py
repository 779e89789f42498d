"""What a baseline is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.gauge import frames, turned_rows

HALF = 16  # bits of a stored number that is not quantized


@dataclass(frozen=True, eq=False)
class Collection:
    """Adapters with equal modules, float64, scaling folded into B; ``names`` are theirs in the same order."""

    names: tuple[str, ...]
    given: tuple[Adapter, ...]

    @classmethod
    def of(cls, adapters: Mapping[str, Adapter]) -> Collection:
        """The collection of adapters by name."""
        return cls(tuple(adapters), tuple(mapped(adapter, _folded) for adapter in adapters.values()))

    @cached_property
    def balanced(self) -> tuple[Adapter, ...]:
        """The same in √S form: B = U√S, A = √S·Vᵀ of ΔW = USVᵀ, components in descending order."""
        return tuple(mapped(adapter, _balanced) for adapter in self.given)

    def in_gauge(self, gauge: str) -> tuple[Adapter, ...]:
        """``given`` or ``svd``."""
        return {"given": self.given, "svd": self.balanced}[gauge]

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(self.given[0].modules)

    @property
    def parameters(self) -> int:
        """LoRA parameters of all adapters together."""
        return sum(adapter.parameters for adapter in self.given)

    def factors(self, module: str) -> list[Factors]:
        """One module's factors of every adapter."""
        return [adapter.modules[module] for adapter in self.given]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What every adapter comes back as, in the order of the collection, and the bits stored for all of them together."""

    adapters: tuple[Adapter, ...]
    bits: float


def mapped(adapter: Adapter, function: Callable[[Factors], Factors]) -> Adapter:
    """The adapter with every module's factors replaced."""
    return Adapter({name: function(factors) for name, factors in adapter.modules.items()}, adapter.base_model)


def assembled(modules: Mapping[str, Sequence[Factors]]) -> tuple[Adapter, ...]:
    """One adapter for each position of the modules' lists."""
    count = len(next(iter(modules.values())))
    return tuple(Adapter({name: found[i] for name, found in modules.items()}) for i in range(count))


def half(values: Tensor) -> Tensor:
    """``values`` as float16 would hold them, float64."""
    return values.to(torch.float16).double()


def _folded(factors: Factors) -> Factors:
    return Factors(factors.A.double(), factors.B.double() * factors.scaling)


def _balanced(factors: Factors) -> Factors:
    (frame,) = frames([factors], "svd")
    rows = turned_rows(factors, frame, slice(0, factors.d_out + factors.d_in))
    return Factors(rows[factors.d_out :].T.contiguous(), rows[: factors.d_out].contiguous())
