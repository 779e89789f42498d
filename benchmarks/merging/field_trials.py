"""What is tried of every method: settings from its paper and around them, none of them special to a collection of adapters.

A method has one row of the table for each output rank, and one for each preparation. Where it has a λ of its own, a few values
of it are tried; where it has none it is used as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDE = 128  # eight adapters of rank 16 side by side
SAME = {
    "cat": f"the sum of `task_arithmetic`, not cut (as at rank {WIDE})",
    "svd": "the sum of `task_arithmetic`, cut in the same way",
    "final_average": "the ΔW of `average`",
}
_PICO = ("pico",)
_TIES, _ISO = {"rule": "ties"}, {"rule": "iso"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One merge: ``weights`` is one for all adapters or one each; ``lesson`` names what was learned before."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 16
    weights: float | tuple[float, ...] = 1.0
    prepare: tuple[str, ...] = ()
    lesson: str | None = None
    found: str = ""

    @property
    def row(self) -> tuple[str, int, str]:
        """The row of the table for which it competes: method, rank, preparation."""
        return self.method, self.rank, ", ".join(self.prepare)

    @property
    def setting(self) -> str:
        """What was set, in words."""
        words = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.options.items()]
        words += [f"weights {self.weights:.3g}"] if isinstance(self.weights, float) and self.weights != 1.0 else []
        words += [self.found] if self.found else []
        return ", ".join(words) or "defaults"


def grid(quick: bool = False) -> list[Trial]:
    """All settings of the methods that need adapters only; with ``quick`` a few."""
    trials = [*_sums(), *_elementwise(), *_spectral(), *_factors(), *_others()]
    return [trials[0], trials[3]] if quick else trials


def _each(method: str, options: Sequence[Mapping[str, Any]], rank: int = 16, **more: Any) -> Iterator[Trial]:
    return (Trial(method, each, rank, **more) for each in options)


def _scales(*values: float, **more: Any) -> list[dict[str, Any]]:
    return [more | {"scale": value} for value in values]


def _sums() -> Iterator[Trial]:
    yield from _each("average", [{}])
    yield from _each("average", [{}], prepare=_PICO)
    yield from _each("task_arithmetic", _scales(0.2, 0.3, 0.4))
    yield from _each("task_arithmetic", _scales(0.3, 0.4), prepare=_PICO)
    yield from _each("task_arithmetic", _scales(0.3, 0.4), WIDE)
    yield from _each("task_arithmetic", _scales(0.3), WIDE, prepare=_PICO)


def _elementwise() -> Iterator[Trial]:
    yield from _each("ties", [*_scales(0.7, 1.0, 1.5, density=0.2), *_scales(0.7, 1.0, density=0.5)])
    yield from _each("ties", _scales(1.5, density=0.2), prepare=_PICO)
    yield from _each("ties", _scales(0.7, 1.0, density=0.2), WIDE)
    yield from _each("dare_linear", _scales(0.3, 0.4, density=0.8))
    yield from _each("dare_ties", _scales(1.0, 1.5, density=0.8))
    yield from _each("knots", _scales(0.6, 1.0, 1.5, density=0.2))
    yield from _each("knots", _scales(1.0, density=0.2), WIDE)
    yield from _each("core_space", _scales(1.0, 1.5, 2.0, density=0.2))
    yield from _each("pcb", [{}])


def _spectral() -> Iterator[Trial]:
    yield from _each("tsv_m", _scales(0.4, 0.7, 1.0))
    yield from _each("tsv_m", _scales(0.4, 0.7), WIDE)
    for method in ("iso_c", "iso_cts"):
        yield from _each(method, _scales(1.0, 1.5, 2.5))
        yield from _each(method, _scales(0.6, 1.0), WIDE)
    yield from _each("cart", _scales(0.1, 0.5, 1.0))
    yield from _each("compress_then_merge", [*_scales(0.75, **_TIES), *_scales(0.5, 0.75, **_ISO)])
    yield from _each("opcm", [{"alpha": 0.5}, {"alpha": 0.5, "k_max": WIDE}])
    yield from _each("sub_moe", [{}])


def _factors() -> Iterator[Trial]:
    yield from (Trial("linear_factors", weights=weight) for weight in (0.125, 0.3))
    for method in ("lora_lego", "mc_smoe", "pleas_data_free", "sparse_soup"):
        yield from _each(method, [{}])
    yield from _each("robust_merge", [{"fuse_weight": 1.0}, {"fuse_weight": 2.0}])


def _others() -> Iterator[Trial]:
    yield from _each("layer_assembly", [{}])
    yield from _each("doge", [{}])
