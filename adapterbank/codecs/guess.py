"""Right vectors as combinations of a reference's rows: the encoder's half of the prediction ``rows``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.codecs.classes import CLASSES
from adapterbank.codecs.components import Side
from adapterbank.codecs.prediction import Rows, Subject, coarseness
from adapterbank.codecs.tables import FINE, LOWEST
from adapterbank.codecs.trellis import Trellis
from adapterbank.codecs.vectors import quantized

_RIDGE = 0.03  # of a row's length: rows of two references are nearly parallel, and their coefficients would run away


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Coefficients ``[L, l]`` of a module's right vectors, the ``points [L, d_in]`` in Δ that the decoder will combine from
    them, and the classes ``[L]`` of what is left over."""

    coefficients: Side
    points: Tensor
    rest_classes: Tensor


def guesses(subjects: Sequence[Subject], targets: Sequence[Tensor], code: Trellis) -> list[Guess | None]:
    """A guess of ``targets`` ``[L, d_in]`` for every module that has rows."""
    found: list[Guess | None] = [None] * len(subjects)
    where = [(i, subject.rows) for i, subject in enumerate(subjects) if subject.rows is not None]
    fits = [_least_squares(rows, targets[i]) for i, rows in where]
    scaled = [c / torch.exp2(_doublings(rest)).unsqueeze(1) for c, rest in fits]
    sides = quantized([(c, torch.ones(len(c)), _classes(c)) for c in scaled], code)
    for (i, rows), (_, rest), side in zip(where, fits, sides, strict=True):
        points = rows.combined((side.points * FINE).round().long().numpy(), rest.numpy())
        found[i] = Guess(side, torch.from_numpy(points / FINE).float(), rest)
    return found


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
