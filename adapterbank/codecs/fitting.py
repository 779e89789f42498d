"""An adapter coded in one way so that its target is met: drafts at several steps, and the object of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log, sqrt

from adapterbank.codecs import writer
from adapterbank.codecs.candidates import Candidate
from adapterbank.codecs.components import ideal
from adapterbank.codecs.draft import Told, draft
from adapterbank.codecs.prediction import Subject
from adapterbank.codecs.search import best, search
from adapterbank.codecs.target import Target
from adapterbank.lora.layout import ModuleShape

_ROUGH, _FINE = 4, 10  # drafts at most: without sweeps to find the step, and with them to meet the target
_HALVINGS = 40
_USUAL = 0.2
_ROUNDING = 1e-6  # between the error of the factors' Grams and that of the decoded float32 factors


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What stays the same for every way to code an adapter; ``energy`` is ‖ΔW‖², ``extras`` a section of the object."""

    shapes: Sequence[ModuleShape]
    energy: float
    extras: bytes
    target: Target
    effort: int
    told: Told

    @property
    def parameters(self) -> int:
        """LoRA parameters of the adapter, at least 1."""
        return sum(shape.parameters for shape in self.shapes) or 1

    @property
    def drafts(self) -> int:
        """How many drafts one way takes at most."""
        return _FINE + (_ROUGH if self.effort else 0)

    def better(self, first: Result, second: Result) -> Result:
        """The one of two that serves the target with less: fewer bytes, or at a target of bits the smaller error."""
        if self.target.bits is not None:
            return second if second.error < first.error else first
        return second if len(second.data) < len(first.data) else first


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An object, the step that it has, and its relative error."""

    candidate: Candidate
    step: float
    error: float
    data: bytes


def reached(task: Task, candidate: Candidate, near: float | None = None) -> Result:
    """``candidate`` coded at the step that meets the target, looked for from ``near`` on. Raises ErrorBoundError."""
    if task.target.step is not None:
        return _coded(task, candidate, task.target.step * _unit(candidate.subjects), task.effort)[1]
    kind = "bits" if task.target.bits is not None else "max_error"
    wanted = task.target.bits or (task.target.max_error or 0.0) * (1.0 - _ROUNDING)
    step = near or _likely(candidate.subjects, partial(_misses, task, kind, wanted))
    if task.effort:
        step = search(lambda s: _coded(task, candidate, s, 0), step, wanted, kind, _ROUGH)[-1].step
    done = search(lambda s: _coded(task, candidate, s, task.effort), step, wanted, kind, _FINE)
    return best(done, wanted, kind).result


def _misses(task: Task, kind: str, wanted: float, error: float, bits: float) -> bool:
    """Whether a code of this squared error and so many bits comes of too large a step."""
    return bits < wanted * task.parameters if kind == "bits" else error > wanted**2 * task.energy


def extent(subjects: Sequence[Subject]) -> float:
    """Bits of an ideal code of relative error 0.2."""
    energy = sum(subject.spectrum.energy for subject in subjects)
    step = _likely(subjects, lambda error, _: error > _USUAL**2 * energy)
    return sum(ideal(subject.spectrum, step)[1] for subject in subjects)


def _coded(task: Task, candidate: Candidate, step: float, effort: int) -> tuple[float, Result]:
    """The figure that the target is about, and the result of one step."""
    drafted = draft(candidate.subjects, task.energy, writer.storable(step), effort, task.told)
    data = writer.write(drafted, candidate.subjects, task.shapes, candidate.references, task.extras)
    figure = drafted.error if task.target.bits is None else 8 * len(data) / task.parameters
    return figure, Result(candidate, drafted.step, drafted.error, data)


def _unit(subjects: Sequence[Subject]) -> float:
    """Root mean square entry of the singular vectors times their singular values: what a target's step is relative to."""
    entries = sum(s.spectrum.U.numel() + s.spectrum.V.numel() for s in subjects)
    return sqrt(2.0 * sum(s.spectrum.energy for s in subjects) / entries) if entries else 1.0


def _likely(subjects: Sequence[Subject], too_coarse: Callable[[float, float], bool]) -> float:
    """The step at which an ideal code's squared error and bits turn ``too_coarse``, by bisection between 2⁻³⁰ and 2¹⁰ of the
    unit."""
    unit = _unit(subjects)
    low, high = log(unit) - 30 * log(2.0), log(unit) + 10 * log(2.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        figures = [ideal(subject.spectrum, exp(middle)) for subject in subjects]
        coarse = too_coarse(sum(error for error, _ in figures), sum(bits for _, bits in figures))
        low, high = (low, middle) if coarse else (middle, high)
    return exp((low + high) / 2)
