"""Measured points: one method at one setting on one collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from adapterbank.lora.adapter import Adapter
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs, errors

ALONE = "this coder"  # every adapter by itself
TOGETHER = "this coder, collection"  # through the bank, references allowed
OURS = (ALONE, TOGETHER)


@dataclass(frozen=True, slots=True)
class Point:
    """``bits`` per LoRA parameter, everything that the form needs counted; errors relative in ΔW over the adapters.

    ``output_error`` is the mean error on real inputs, ``accuracy`` the mean over the tasks, where they were measured;
    ``errors`` and ``sizes`` (bytes of the coded objects, of this coder only) are those of each adapter.
    """

    family: str
    method: str
    setting: str
    bits: float
    error_mean: float
    error_worst: float
    output_error: float | None = None
    accuracy: float | None = None
    errors: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.method} {self.setting}".strip()

    def row(self) -> dict[str, Any]:
        """JSON values, six digits each."""
        return {name: _short(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A point with the approximations it was measured on, by adapter."""

    point: Point
    adapters: Mapping[str, Adapter]


@dataclass(frozen=True, slots=True)
class Unreached:
    """A target that this coder refused, and what it said."""

    family: str
    method: str
    setting: str
    why: str


def outcome(
    family: Family,
    name: tuple[str, str],
    bits: float,
    found: Sequence[Adapter],
    inputs: Inputs | None,
    sizes: Sequence[int] = (),
) -> Outcome:
    """The point of ``found``, in the order of the family's adapters; ``name`` is method and setting, ``bits`` those of all."""
    originals = list(family.adapters.values())
    lost = errors(originals, found)
    seen = None if inputs is None else mean(errors(originals, found, inputs))
    rate = bits / family.parameters
    point = Point(family.name, *name, rate, mean(lost), max(lost), seen, errors=tuple(lost), sizes=tuple(sizes))
    return Outcome(point, dict(zip(family.adapters, found, strict=True)))


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
