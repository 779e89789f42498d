"""An adapter quantized at one step: the passes over its vectors that end in what is then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
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
from adapterbank.codecs.quantize import quantize
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.trellis import Trellis, trellis

# By effort: closed-loop sweeps, states of the trellis.
EFFORTS = ((0, 8), (1, 8), (3, 8), (3, 32))

Told = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The kept components of every module at ``step``; ``error`` is relative to ΔW, ``bits`` a model of the payload's size."""

    step: float
    states: int
    modules: Sequence[Kept]
    error: float
    bits: float


def draft(modules: Sequence[Spectrum], step: float, effort: int, told: Told = lambda: None) -> Draft:
    """Quantize every module at ``step`` with the sweeps and the trellis of ``effort``."""
    sweeps, states = EFFORTS[effort]
    code = trellis(states)
    kept = _first(modules, step, code)
    kept = _dropped(modules, kept, step)
    told()
    for _ in range(sweeps):
        kept = [_regained(spectrum, each, step) for spectrum, each in zip(modules, kept, strict=True)]
        for side in (0, 1):
            kept = _closed(modules, kept, side, step, code)
        kept = _dropped(modules, kept, step)
        told()
    return Draft(step, states, kept, *_measured(modules, kept, step))


def _first(modules: Sequence[Spectrum], step: float, code: Trellis) -> list[Kept]:
    index = [worth_coding(spectrum, step) for spectrum in modules]
    gains = [first_gains(spectrum, own, step) for spectrum, own in zip(modules, index, strict=True)]
    targets = [first_targets(*each, step) for each in zip(modules, index, gains, strict=True)]
    flat = [target for pair in targets for target in pair]
    sides = iter(_coded(flat, [own for own in gains for _ in (0, 1)], [torch.ones(len(own)) for own in gains for _ in (0, 1)], code))
    return [Kept(own, g, (next(sides), next(sides))) for own, g in zip(index, gains, strict=True)]


def _closed(modules: Sequence[Spectrum], kept: Sequence[Kept], side: int, step: float, code: Trellis) -> list[Kept]:
    """Quantize one side of every module anew against the points of the other."""
    targets = [closed_targets(s, each, Grams.of(s, each), side, step) for s, each in zip(modules, kept, strict=True)]
    coded = _coded([target for target, _ in targets], [each.gains for each in kept], [weights for _, weights in targets], code)
    return [replace(k, sides=(new, k.sides[1]) if side == 0 else (k.sides[0], new)) for k, new in zip(kept, coded, strict=True)]


def _coded(targets: Sequence[Tensor], gains: Sequence[Tensor], weights: Sequence[Tensor], code: Trellis) -> list[Side]:
    """Quantize the rows of every matrix ``[L, d]``."""
    sizes = np.array([target.shape[1] for target in targets for _ in range(len(target))], np.int64)
    classes = np.array([class_of(g, t.shape[1]) for own, t in zip(gains, targets, strict=True) for g in own.tolist()], np.int64)
    found = quantize(torch.cat([target.flatten() for target in targets]), sizes, classes, torch.cat(list(weights)), code)
    sides, at = [], 0
    for target in targets:
        cut, at = slice(at, at + target.numel()), at + target.numel()
        k, q, points, bits = (values[cut].view(target.shape) for values in (found.k, found.q, found.points, found.bits))
        sides.append(Side(k, q, points, bits.sum(dim=1)))
    return sides


def _regained(spectrum: Spectrum, kept: Kept, step: float) -> Kept:
    return replace(kept, gains=best_gains(spectrum, kept, Grams.of(spectrum, kept), step)) if len(kept.index) else kept


def _dropped(modules: Sequence[Spectrum], kept: Sequence[Kept], step: float) -> list[Kept]:
    return [each.only(paying(s, each, Grams.of(s, each), step)) for s, each in zip(modules, kept, strict=True)]


def _measured(modules: Sequence[Spectrum], kept: Sequence[Kept], step: float) -> tuple[float, float]:
    error = sum(squared_error(s, each, Grams.of(s, each), step) for s, each in zip(modules, kept, strict=True))
    bits = sum(float(side.bits.sum()) for each in kept for side in each.sides)
    return sqrt(max(error, 0.0) / (sum(spectrum.energy for spectrum in modules) or 1.0)), bits
