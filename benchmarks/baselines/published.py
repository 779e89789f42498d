"""Figures that the baselines must reproduce on eight real adapters of unlike tasks before anything is compared with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from adapterbank.lora.delta import delta_error
from benchmarks.baselines import vlora as real_vlora
from benchmarks.baselines.collection import Collection, Form
from benchmarks.baselines.joint import joint_full
from benchmarks.baselines.rounding import integers
from benchmarks.baselines.truncated import truncated

TOLERANCE = 0.01  # of the error; bits may differ by 5 %: what counts as stored is a convention


@dataclass(frozen=True, slots=True)
class Known:
    """A mean relative ΔW error, and the bits per parameter it costs."""

    method: str
    error: float
    bits: float
    run: Callable[[Collection], Form]


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came out beside what is known; ``error`` and ``bits`` are None where the method cannot be run."""

    known: Known
    error: float | None
    bits: float | None

    @property
    def holds(self) -> bool:
        if self.error is None or self.bits is None:
            return True
        return abs(self.error - self.known.error) <= TOLERANCE and abs(self.bits / self.known.bits - 1.0) <= 0.05

    def text(self) -> str:
        """One line for a terminal."""
        if self.error is None or self.bits is None:
            return f"{self.known.method}: not installed ({real_vlora.PIP_LINE})"
        verdict = "" if self.holds else "  NOT REPRODUCED"
        return (
            f"{self.known.method}: error {self.error:.3f} (known {self.known.error:.3f}) at {self.bits:.2f} bits "
            f"(known {self.known.bits:.2f}){verdict}"
        )


KNOWN = (
    Known("SVD rank 1", 0.660, 1.0, partial(truncated, rank=1)),
    Known("int4 groups of 64", 0.109, 4.25, partial(integers, bits=4)),
    Known("int3 groups of 64", 0.259, 3.25, partial(integers, bits=3)),
    Known("JD-Full R=16", 0.553, 2.2, partial(joint_full, rank=16)),
    Known("vLoRA k=4", 0.576, 10.0, partial(real_vlora.vlora, components=4)),
)


def reproduce(collection: Collection) -> list[Reproduced]:
    """Every known figure, measured on the eight adapters."""
    return [_reproduced(known, collection) for known in KNOWN]


def _reproduced(known: Known, collection: Collection) -> Reproduced:
    if known.method.startswith("vLoRA") and not real_vlora.installed():
        return Reproduced(known, None, None)
    form = known.run(collection)
    errors = [delta_error(a, b).total for a, b in zip(collection.given, form.adapters, strict=True)]
    return Reproduced(known, sum(errors) / len(errors), form.bits / collection.parameters)
