"""An adapter quantized at one step: the passes over its vectors that end in what is then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from adapterbank.codecs.classes import CLASSES, class_of
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
from adapterbank.codecs.prediction import Rows, Subject
from adapterbank.codecs.quantize import quantize
from adapterbank.codecs.tables import FINE, LOWEST
from adapterbank.codecs.trellis import Trellis, trellis

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
        sides = _quantized([(t, weights, _own_classes(k, t)) for k, (t, weights) in zip(kept, targets, strict=True)], code)
        return [replace(each, x=side) for each, side in zip(kept, sides, strict=True)]
    few = _coefficients(subjects, targets, code)
    known = [
        s.rows.combined(_fine(c)) if s.rows is not None and c is not None else None for s, c in zip(subjects, few, strict=True)
    ]
    wanted = []
    for each, (t, weights), guess in zip(kept, targets, known, strict=True):
        rest = t if guess is None else t - torch.from_numpy(guess / FINE).float()
        wanted.append((rest, weights, _own_classes(each, t) if guess is None else _measured_classes(rest)))
    sides = _quantized(wanted, code)
    whole = [
        s if g is None else replace(s, points=s.points + torch.from_numpy(g / FINE).float())
        for s, g in zip(sides, known, strict=True)
    ]
    return [replace(each, y=side, coefficients=c) for each, side, c in zip(kept, whole, few, strict=True)]


def _coefficients(subjects: Sequence[Subject], targets: Sequence[tuple[Tensor, Tensor]], code: Trellis) -> list[Side | None]:
    """Least squares coefficients of the right vectors on the rows that predict them, quantized."""
    found: list[Side | None] = [None] * len(subjects)
    where = [i for i, subject in enumerate(subjects) if subject.rows is not None]
    wanted = []
    for i in where:
        c = _least_squares(subjects[i].rows, targets[i][0])
        wanted.append((c, targets[i][1], _measured_classes(c)))
    for i, side in zip(where, _quantized(wanted, code), strict=True):
        found[i] = side
    return found


def _least_squares(rows: Rows | None, t: Tensor) -> Tensor:
    assert rows is not None
    unit = rows.unit.double()
    gram = unit @ unit.T
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, unit @ t.double().T).T.float()


def _fine(side: Side) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The points of a side in Δ/64."""
    return (side.points * FINE).round().long().numpy()


def _own_classes(kept: Kept, target: Tensor) -> Tensor:
    return torch.tensor([class_of(gain, target.shape[1]) for gain in kept.gains.tolist()], dtype=torch.int64)


def _measured_classes(t: Tensor) -> Tensor:
    """Classes of vectors ``[L, d]`` by their root mean square; the lowest where nothing is left."""
    size = t.square().mean(dim=1).sqrt().clamp(min=2.0 ** (LOWEST / CLASSES))
    return torch.round(CLASSES * torch.log2(size)).long()


def _quantized(wanted: Sequence[tuple[Tensor, Tensor, Tensor]], code: Trellis) -> list[Side]:
    """Quantize the rows of matrices ``[L, d]`` with weights and classes ``[L]``, all in one go."""
    if not wanted:
        return []
    sizes = np.repeat([t.shape[1] for t, _, _ in wanted], [len(t) for t, _, _ in wanted])
    flat, weights, classes = (torch.cat([each[i].flatten() for each in wanted]) for i in range(3))
    found = quantize(flat, sizes, classes.numpy(), weights, code)
    sides, at = [], 0
    for t, _, own in wanted:
        k, q, points, bits = (
            values[at : at + t.numel()].view(t.shape) for values in (found.k, found.q, found.points, found.bits)
        )
        sides.append(Side(k, q, own, bits.sum(dim=1), points))
        at += t.numel()
    return sides


def _regained(subject: Subject, kept: Kept, step: float) -> Kept:
    if len(kept.index) == 0:
        return kept
    return replace(kept, gains=best_gains(subject.spectrum, kept, Grams.of(subject.spectrum, kept), step))


def _dropped(subjects: Sequence[Subject], kept: Sequence[Kept], step: float) -> list[Kept]:
    return [k.only(paying(s.spectrum, k, Grams.of(s.spectrum, k), step)) for s, k in zip(subjects, kept, strict=True)]
