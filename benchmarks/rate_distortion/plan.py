"""What is measured: collections, targets, and how much of it in a quick run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapterbank.codecs.target import Target
from benchmarks.baselines.table import Rival
from benchmarks.rate_distortion import synthetic
from benchmarks.rate_distortion.families import Family, real

ERRORS = (0.66, 0.50, 0.37, 0.28, 0.21, 0.15, 0.11, 0.08)
LIMITS = (0.19, 0.45, 0.84, 1.24, 1.68, 2.20, 2.68, 3.17)  # bits per parameter at these errors, unrelated adapters
_LOW = (0.98, 0.95, 0.90, 0.80)  # where rivals have points too that keep next to nothing
_HIGH = (0.05, 0.018)
_CHAIN = (0.28, 0.10)
SHARES = (0.10, 0.20, 0.30)  # of ΔW that a step of a chain of versions changes
SHARED = (0.66, 0.37, 0.15, 0.11, 0.08)
KINDS = ("random", "toward")
ACCURATE_BITS = (0.02, 0.04, 0.06, 0.11, 0.22)  # everything counted where the configurations leave room, else the object

# Rivals whose accuracy is measured too: evaluating a form of eight adapters takes as long as coding them.
_SOLVED = {
    "mean only", "RMM p=1", "RMM √S p=1", "RMM √S p=3", "SVD rank 1", "JD-Full R=16", "vLoRA k=4", "LoRAQuant 2 bit ρ=0.3",
    "ComPEFT √S k=0.02", "ComPEFT √S k=0.05", "int 2 bit search/64", "int 4 bit absmax/64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """One collection: how to make it, and the targets for every adapter alone and for all through the bank.

    ``bits`` are wanted totals, configurations included, at which accuracy is measured as well. ``effort`` is the coder's where
    it is not the one that was asked for: 0 will do for what compares it with itself, or with rivals that are far off.
    """

    name: str
    make: Callable[[], Family]
    alone: tuple[Target, ...]
    together: tuple[Target, ...] = ()
    bits: tuple[float, ...] = ()
    rivals: bool = True
    effort: int | None = 0


def plans(data: Path, quick: bool) -> list[Plan]:
    """Every collection, or for a quick run one real and one that shares nothing."""
    source = partial(real, data, "r16")
    if quick:
        return [
            Plan("r16", lambda: source().first(4), _errors(0.66, 0.28, 0.11, 0.018), bits=(0.06, 0.22)),
            Plan("null", lambda: synthetic.null(source(), 2), _errors(0.28), _errors(0.28), rivals=False),
        ]
    every = _errors(*_LOW, *ERRORS, *_HIGH)
    some = _errors(*_LOW, 0.66, 0.37, 0.21, 0.11, 0.018)
    few = _errors(0.66, 0.28, 0.11)
    beside = (*_errors(*_LOW), *few, *_errors(0.018))
    found = [
        Plan("r16", source, every, bits=ACCURATE_BITS, effort=None),
        Plan("clinc", partial(real, data, "clinc"), some, _errors(0.21)),
        Plan("r16_sharedinit", partial(real, data, "r16_sharedinit"), _errors(*_LOW, *SHARED, 0.018), _errors(*SHARED)),
        Plan("r64", partial(real, data, "r64"), some),
        Plan("null", lambda: synthetic.null(source()), beside, few),
        Plan("planted", lambda: synthetic.planted(source(), 4), beside, few),
        Plan("copies", lambda: synthetic.copies(source()), beside, _errors(0.28)),
    ]
    for kind in KINDS:
        for share in SHARES:
            name = f"chain-{kind}-{round(100 * share)}"
            alone = _errors(0.90, 0.66, *_CHAIN, 0.018)
            found.append(Plan(name, partial(_chain, source, share, kind), alone, _errors(*_CHAIN)))
    return found


def solved(label: str, quick: bool) -> bool:
    """Whether the accuracy of this rival's form is measured."""
    return label in ({"SVD rank 1", "RMM p=1"} if quick else _SOLVED)


def kept(rival: Rival, quick: bool) -> bool:
    """Whether this rival is run at all."""
    return not quick or rival.name in _SOLVED


def _errors(*values: float) -> tuple[Target, ...]:
    return tuple(Target(max_error=value) for value in values)


def _chain(source: Callable[[], Family], share: float, kind: str) -> Family:
    return synthetic.chain(source(), share, kind)
