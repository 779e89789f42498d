"""What a module's vectors are known to be about, before they are coded: the encoder's half of the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.classes import CLASSES
from adapterbank.codecs.components import Kept, Side
from adapterbank.codecs.prediction import Known, Rows, Subject, coarseness
from adapterbank.codecs.refinement import predicted
from adapterbank.codecs.tables import FINE, LOWEST
from adapterbank.codecs.trellis import Trellis
from adapterbank.codecs.vectors import quantized

_RIDGE = 0.03  # of a row's length: rows of two references are nearly parallel, and their coefficients would run away


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """The ``points [L, d]`` in Δ that the decoder will add to the vectors of one side, and the classes ``[L]`` of what is left
    over; with rows the ``coefficients [L, l]``."""

    points: Tensor
    rest_classes: Tensor
    coefficients: Side | None = None


def guesses(
    subjects: Sequence[Subject], kept: Sequence[Kept], targets: Sequence[Tensor], left: bool, code: Trellis
) -> list[Guess | None]:
    """A guess of ``targets`` ``[L, d]``, x if ``left``, else y, for every module that has one."""
    found: list[Guess | None] = [None] * len(subjects)
    for i, (subject, own, t) in enumerate(zip(subjects, kept, targets, strict=True)):
        if isinstance(subject.known, Known):
            points = predicted(subject.known, own, left)
            found[i] = Guess(points, _classes(t - points))
    if not left:
        _with_rows(found, subjects, targets, code)
    return found


def _with_rows(found: list[Guess | None], subjects: Sequence[Subject], targets: Sequence[Tensor], code: Trellis) -> None:
    """Put the guesses of the modules that have rows in their places."""
    where = [(i, subject.known) for i, subject in enumerate(subjects) if isinstance(subject.known, Rows)]
    fits = [_least_squares(rows, targets[i]) for i, rows in where]
    scaled = [c / torch.exp2(_doublings(rest)).unsqueeze(1) for c, rest in fits]
    sides = quantized([(c, torch.ones(len(c)), _classes(c)) for c in scaled], code)
    for (i, rows), (_, rest), side in zip(where, fits, sides, strict=True):
        points = rows.combined((side.points * FINE).round().long().numpy(), rest.numpy())
        found[i] = Guess(torch.from_numpy(points / FINE).float(), rest, side)


def _least_squares(rows: Rows, t: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients ``[L, l]``, and the classes ``[L]`` of what they leave over."""
    unit = rows.unit.double()
    gram = unit @ unit.T
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    c = torch.linalg.solve(gram + ridge, unit @ t.double().T).T.float()
    return c, _classes(t - c @ rows.unit)


def _classes(t: Tensor) -> Tensor:
    """Classes of vectors ``[L, d]`` by their root mean square; the lowest where nothing is left."""
    size = t.square().mean(dim=1).sqrt().clamp(min=2.0 ** (LOWEST / CLASSES))
    return torch.round(CLASSES * torch.log2(size)).long()


def _doublings(rest_classes: Tensor) -> Tensor:
    return torch.from_numpy(coarseness(rest_classes.numpy())).float()
