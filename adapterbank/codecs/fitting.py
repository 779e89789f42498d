"""An adapter coded in one way so that its target is met: drafts at several steps, and the object of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from adapterbank.codecs import writer
from adapterbank.codecs.candidates import Candidate
from adapterbank.codecs.components import ideal
from adapterbank.codecs.draft import Told, draft
from adapterbank.codecs.prediction import Subject
from adapterbank.codecs.search import best, search
from adapterbank.codecs.target import Target
from adapterbank.lora.layout import ModuleShape

_ROUGH, _FINE = 4, 8  # drafts at most: without sweeps to find the step, and with them to meet the target
_HALVINGS = 40
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
    step = near or _likely(task, candidate.subjects, kind, wanted)
    if task.effort:
        step = search(lambda s: _coded(task, candidate, s, 0), step, wanted, kind, _ROUGH)[-1].step
    done = search(lambda s: _coded(task, candidate, s, task.effort), step, wanted, kind, _FINE)
    return best(done, wanted, kind).result


def _coded(task: Task, candidate: Candidate, step: float, effort: int) -> tuple[float, Result]:
    """The figure that the target is about, and the result of one step."""
    drafted = draft(candidate.subjects, task.energy, writer.storable(step), effort, task.told)
    data = writer.write(drafted, candidate.subjects, task.shapes, candidate.references, task.extras)
    parameters = sum(shape.parameters for shape in task.shapes) or 1
    figure = drafted.error if task.target.bits is None else 8 * len(data) / parameters
    return figure, Result(candidate, drafted.step, drafted.error, data)


def _unit(subjects: Sequence[Subject]) -> float:
    """Root mean square entry of the singular vectors times their singular values: what a target's step is relative to."""
    entries = sum(s.spectrum.U.numel() + s.spectrum.V.numel() for s in subjects)
    return sqrt(2.0 * sum(s.spectrum.energy for s in subjects) / entries) if entries else 1.0


def _likely(task: Task, subjects: Sequence[Subject], kind: str, wanted: float) -> float:
    """The step at which an ideal code would meet the target, by bisection between 2⁻³⁰ and 2¹⁰ of the unit."""
    unit = _unit(subjects)
    low, high = log(unit) - 30 * log(2.0), log(unit) + 10 * log(2.0)
    parameters = sum(shape.parameters for shape in task.shapes) or 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        errors, bits = zip(*(ideal(s.spectrum, exp(middle)) for s in subjects), strict=True) if subjects else ((0.0,), (0.0,))
        too_coarse = sum(bits) / parameters < wanted if kind == "bits" else sum(errors) > wanted**2 * task.energy
        low, high = (low, middle) if too_coarse else (middle, high)
    return exp((low + high) / 2)
