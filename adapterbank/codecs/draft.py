"""An adapter quantized at one step: the passes over its vectors that end in what is then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
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
from adapterbank.codecs.prediction import REFINED, Known, Subject
from adapterbank.codecs.quantize import SLOPE
from adapterbank.codecs.refinement import shared_out, started
from adapterbank.codecs.trellis import Trellis, trellis
from adapterbank.codecs.vectors import quantized
from adapterbank.linalg.workers import share_out

# By effort: closed-loop sweeps, states of the trellis.
EFFORTS = ((0, 8), (1, 8), (3, 8), (3, 32))
_GROUP = 1 << 18

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
    """Quantize every module at ``step`` with the sweeps and the trellis of ``effort``; ``energy`` is ‖ΔW‖² of the adapter.

    Modules are shared out to threads in groups of some 250,000 parameters, whatever the number of threads, so that neither
    the result nor the memory of a thread depends on it. ``told`` is called once per group.
    """
    _, states = EFFORTS[effort]
    modules: list[Kept] = []
    errors: list[float] = []

    def done(group: tuple[list[Kept], float]) -> None:
        modules.extend(group[0])
        errors.append(group[1])
        told()

    share_out(lambda group: _group(group, step, effort), groups(subjects), done)
    return Draft(step, states, modules, sqrt(max(sum(errors), 0.0) / energy) if energy > 0.0 else 0.0)


def groups(subjects: Sequence[Subject]) -> list[Sequence[Subject]]:
    """Runs of modules of about ``_GROUP`` parameters."""
    ends = list(accumulate(subject.spectrum.U.numel() + subject.spectrum.V.numel() for subject in subjects))
    cuts = [i for i in range(1, len(ends)) if ends[i - 1] // _GROUP != ends[i] // _GROUP]
    return [subjects[first:stop] for first, stop in pairwise([0, *cuts, len(subjects)])]


def _group(subjects: Sequence[Subject], step: float, effort: int) -> tuple[list[Kept], float]:
    """The kept components of some modules and their squared error."""
    sweeps, states = EFFORTS[effort]
    code = trellis(states)
    kept = _first(subjects, step, code)
    for _ in range(sweeps):
        kept = [_regained(subject, each, step) for subject, each in zip(subjects, kept, strict=True)]
        for left in (True, False):
            targets = [_closed(subject, each, left, step) for subject, each in zip(subjects, kept, strict=True)]
            kept = _coded(subjects, kept, targets, left, code)
        kept = _dropped(subjects, kept, step)
    return kept, sum(squared_error(s.spectrum, k, step) for s, k in zip(subjects, kept, strict=True))


def _closed(subject: Subject, kept: Kept, left: bool, step: float) -> tuple[Tensor, Tensor]:
    return closed_targets(subject.spectrum, kept, Grams.of(subject.spectrum, kept), left, step)


def _first(subjects: Sequence[Subject], step: float, code: Trellis) -> list[Kept]:
    """Every component that may be worth it, less those that were not: coded on its own, or x and then y by least squares."""
    kept = []
    for subject in subjects:
        if isinstance(subject.known, Known):
            kept.append(started(subject.known, step))
            continue
        index = worth_coding(subject.spectrum, step)
        kept.append(Kept(index, first_gains(subject.spectrum, index, step), Side.unset(), Side.unset()))
    for left in (True, False):
        targets = [_opening(subject, own, left, step) for subject, own in zip(subjects, kept, strict=True)]
        kept = _coded(subjects, kept, targets, left, code)
    return _dropped(subjects, kept, step)


def _opening(subject: Subject, kept: Kept, left: bool, step: float) -> tuple[Tensor, Tensor]:
    """The first targets of one side and their weights."""
    if isinstance(subject.known, Known):
        targets, weights = _closed(subject, kept, left, step)
        return (shared_out(subject.known, kept, targets) if left else targets), weights
    targets = first_targets(subject.spectrum, kept.index, kept.gains, step)[0 if left else 1]
    return targets, torch.ones(len(targets))


def _coded(
    subjects: Sequence[Subject], kept: Sequence[Kept], targets: Sequence[tuple[Tensor, Tensor]], left: bool, code: Trellis
) -> list[Kept]:
    """Quantize one side of every module: ``targets`` are ``[L, d]`` in Δ with the weights ``[L]`` of their squared errors."""
    known = guesses(subjects, kept, [t for t, _ in targets], left, code)
    wanted = []
    for each, (t, weights), guess in zip(kept, targets, known, strict=True):
        rest = (t, _own_classes(each, t)) if guess is None else (t - guess.points, guess.rest_classes)
        wanted.append((rest[0], weights, rest[1]))
    sides = quantized(wanted, code)
    found = []
    for subject, each, side, guess, (left_over, weights, _) in zip(subjects, kept, sides, known, wanted, strict=True):
        if guess is not None:
            side = side.silent(_idle(side, left_over, weights)) if subject.kind == REFINED else side
            side = replace(side, points=side.points + guess.points)
        few = None if guess is None else guess.coefficients
        found.append(replace(each, x=side) if left else replace(each, y=side, coefficients=few))
    return found


def _idle(side: Side, rest: Tensor, weights: Tensor) -> Tensor:
    """Which samples do not pay ``[L]``: λ·bits is more than what they take off the error."""
    gained = rest.square().sum(dim=1) - (rest - side.points).square().sum(dim=1)
    return weights * gained <= SLOPE * side.bits


def _own_classes(kept: Kept, target: Tensor) -> Tensor:
    return torch.tensor([class_of(gain, target.shape[1]) for gain in kept.gains.tolist()], dtype=torch.int64)


def _regained(subject: Subject, kept: Kept, step: float) -> Kept:
    """With the best gains; what refines a reference's component keeps its own, since its guess follows from it."""
    if len(kept.index) == 0:
        return kept
    gains = best_gains(subject.spectrum, kept, Grams.of(subject.spectrum, kept), step)
    if isinstance(subject.known, Known):
        gains = torch.where(kept.index < len(subject.known.weights), kept.gains, gains)
    return replace(kept, gains=gains)


def _dropped(subjects: Sequence[Subject], kept: Sequence[Kept], step: float) -> list[Kept]:
    return [k.only(paying(s.spectrum, k, Grams.of(s.spectrum, k), step)) for s, k in zip(subjects, kept, strict=True)]
