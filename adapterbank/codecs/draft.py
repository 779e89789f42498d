"""An adapter quantized at one step: the passes over its vectors that end in what is then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from adapterbank.codecs.classes import class_of
from adapterbank.codecs.components import (
    Grams,
    Kept,
    Side,
    best_gains,
    closed_targets,
    first_gains,
    first_targets,
    paying,
    squared_error,
    worth_coding,
)
from adapterbank.codecs.guess import guesses
from adapterbank.codecs.prediction import Subject
from adapterbank.codecs.trellis import Trellis, trellis
from adapterbank.codecs.vectors import quantized

# By effort: closed-loop sweeps, states of the trellis.
EFFORTS = ((0, 8), (1, 8), (3, 8), (3, 32))

Told = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The kept components of every module at ``step``; ``error`` is relative to ΔW."""

    step: float
    states: int
    modules: Sequence[Kept]
    error: float

    @property
    def bits(self) -> float:
        """Modelled bits of the payload."""
        return sum(float(kept.bits.sum()) for kept in self.modules)


def draft(subjects: Sequence[Subject], energy: float, step: float, effort: int, told: Told = lambda: None) -> Draft:
    """Quantize every module at ``step`` with the sweeps and the trellis of ``effort``; ``energy`` is ‖ΔW‖² of the adapter."""
    sweeps, states = EFFORTS[effort]
    code = trellis(states)
    kept = _first(subjects, step, code)
    told()
    for _ in range(sweeps):
        kept = [_regained(subject, each, step) for subject, each in zip(subjects, kept, strict=True)]
        for left in (True, False):
            targets = [
                closed_targets(s.spectrum, k, Grams.of(s.spectrum, k), left, step) for s, k in zip(subjects, kept, strict=True)
            ]
            kept = _coded(subjects, kept, targets, left, code)
        kept = _dropped(subjects, kept, step)
        told()
    left_over = sum(squared_error(s.spectrum, k, Grams.of(s.spectrum, k), step) for s, k in zip(subjects, kept, strict=True))
    return Draft(step, states, kept, sqrt(max(left_over, 0.0) / energy) if energy > 0.0 else 0.0)


def _first(subjects: Sequence[Subject], step: float, code: Trellis) -> list[Kept]:
    """Every component that may be worth it, coded on its own, less those that were not."""
    empty = Side(*(torch.zeros(0) for _ in range(5)))  # until it is coded
    kept, targets = [], []
    for subject in subjects:
        index = worth_coding(subject.spectrum, step)
        gains = first_gains(subject.spectrum, index, step)
        kept.append(Kept(index, gains, empty, empty))
        targets.append(first_targets(subject.spectrum, index, gains, step))
    for left in (True, False):
        ones = [(pair[0 if left else 1], torch.ones(len(pair[0]))) for pair in targets]
        kept = _coded(subjects, kept, ones, left, code)
    return _dropped(subjects, kept, step)


def _coded(
    subjects: Sequence[Subject], kept: Sequence[Kept], targets: Sequence[tuple[Tensor, Tensor]], left: bool, code: Trellis
) -> list[Kept]:
    """Quantize one side of every module: ``targets`` are ``[L, d]`` in Δ with the weights ``[L]`` of their squared errors."""
    if left:
        sides = quantized([(t, weights, _own_classes(k, t)) for k, (t, weights) in zip(kept, targets, strict=True)], code)
        return [replace(each, x=side) for each, side in zip(kept, sides, strict=True)]
    known = guesses(subjects, [t for t, _ in targets], code)
    wanted = []
    for each, (t, weights), guess in zip(kept, targets, known, strict=True):
        rest = (t, _own_classes(each, t)) if guess is None else (t - guess.points, guess.rest_classes)
        wanted.append((rest[0], weights, rest[1]))
    sides = [
        s if g is None else replace(s, points=s.points + g.points) for s, g in zip(quantized(wanted, code), known, strict=True)
    ]
    few = [None if guess is None else guess.coefficients for guess in known]
    return [replace(each, y=side, coefficients=c) for each, side, c in zip(kept, sides, few, strict=True)]


def _own_classes(kept: Kept, target: Tensor) -> Tensor:
    return torch.tensor([class_of(gain, target.shape[1]) for gain in kept.gains.tolist()], dtype=torch.int64)


def _regained(subject: Subject, kept: Kept, step: float) -> Kept:
    if len(kept.index) == 0:
        return kept
    return replace(kept, gains=best_gains(subject.spectrum, kept, Grams.of(subject.spectrum, kept), step))


def _dropped(subjects: Sequence[Subject], kept: Sequence[Kept], step: float) -> list[Kept]:
    return [k.only(paying(s.spectrum, k, Grams.of(s.spectrum, k), step)) for s, k in zip(subjects, kept, strict=True)]
