"""What was chosen for each module, as bytes: the prediction, the gains of the kept components, and their classes where they
do not follow from the gains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.classes import class_of
from adapterbank.codecs.form import packed as packed_section
from adapterbank.codecs.form import unpacked
from adapterbank.codecs.prediction import FURTHEST, KINDS, NONE, REFINED, ROWS
from adapterbank.codecs.rawbits import folded, read_varints, unfolded, varints
from adapterbank.codecs.tables import SILENT
from adapterbank.errors import IntegrityError

# ŝ/Δ from 2⁻¹⁰ to 2⁶⁰ and σ/Δ from 2⁻⁶⁰ to 2⁶⁰: more than float32 needs
_GAINS, _CLASSES = range(-240, 1441), range(-360, 361)
_MOVES = range(-FURTHEST, FURTHEST + 1)
_MOST = 1 << 16  # components of a module that refines another

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Of one module: the kind of prediction; gain indices ``[L]``; which components of the reference the first of them refine
    ``[R]``, whose gains are differences to its; and where they do not follow from the gains the classes ``[L]`` of x, of the
    coefficients, and of y (with a prediction, of their rests)."""

    kind: str
    gains: Ints
    origins: Ints
    x_classes: Ints
    coefficient_classes: Ints
    y_classes: Ints

    def vectors(self, d_out: int, d_in: int, rows: int) -> tuple[Ints, Ints]:
        """Samples and classes of each vector, in the order of the payload: x, coefficients on so many ``rows``, y."""
        runs = [(d_out, self.x_classes if self.kind == REFINED else self._own(d_out))]
        if self.kind == ROWS:
            runs.append((rows, self.coefficient_classes))
        runs.append((d_in, self._own(d_in) if self.kind == NONE else self.y_classes))
        classes = np.concatenate([own for _, own in runs])
        sizes = np.repeat([size for size, _ in runs], len(self.gains))
        return np.where(classes > SILENT, sizes, 0), classes

    def _own(self, d: int) -> Ints:
        return np.array([class_of(int(gain), d) for gain in self.gains], np.int64)


def write(choices: Sequence[Choice]) -> bytes:
    """The section ``choices``: for each module its kind and number of components, gains and classes as differences; after a
    byte that says whether zstandard made it smaller."""
    plain = varints(_numbers(choices))
    packed = packed_section(plain)
    return b"\1" + packed if len(packed) < len(plain) else b"\0" + plain


def read(data: bytes, ranks: Sequence[int]) -> list[Choice]:
    """What :func:`write` wrote for modules of which none keeps more than its entry of ``ranks`` components."""
    if data[:1] not in (b"\0", b"\1"):
        raise IntegrityError("coded adapter: its choices begin with neither 0 nor 1")
    numbers = read_varints(unpacked(data[1:]) if data[0] else data[1:])
    last: dict[bool, int] = {}
    try:
        found = [_choice(numbers, rank, last) for rank in ranks]
    except StopIteration:
        raise IntegrityError("coded adapter: its choices end too early") from None
    if next(numbers, None) is not None:
        raise IntegrityError("coded adapter: more choices than modules")
    return found


def _numbers(choices: Sequence[Choice]) -> Iterator[int]:
    last: dict[bool, int] = {}
    for choice in choices:
        yield KINDS.index(choice.kind)
        yield len(choice.gains)
        old = len(choice.origins)
        if choice.kind == REFINED:
            yield old
            yield from np.diff(choice.origins, prepend=-1) - 1
        for refines, gains in ((True, choice.gains[:old]), (False, choice.gains[old:])):
            yield from _differences(gains.tolist(), last.get(refines, 0))
            last.update({refines: int(gains[0])} if len(gains) else {})
        for classes in (choice.x_classes, choice.coefficient_classes, choice.y_classes):
            yield from _differences(classes.tolist(), 0)


def _differences(values: Iterable[int], last: int) -> Iterator[int]:
    """From largest to smallest a difference is rarely positive: so its sign is turned before folding."""
    for value in values:
        yield folded(last - value)
        last = value


def _values(numbers: Iterator[int], count: int, last: int, allowed: range) -> Ints:
    """What :func:`_differences` wrote."""
    found = []
    for _ in range(count):
        last -= unfolded(next(numbers))
        found.append(last)
    if any(value not in allowed for value in found):
        raise IntegrityError("coded adapter: a gain or class beyond all bounds")
    return np.array(found, np.int64)


def _choice(numbers: Iterator[int], rank: int, last: dict[bool, int]) -> Choice:
    """The next module's; ``last`` has the first gain of the module before, of those that refine and of the others."""
    kind, live = next(numbers), next(numbers)
    if kind >= len(KINDS) or live > (_MOST if KINDS[kind] == REFINED else rank):
        raise IntegrityError(f"coded adapter: prediction {kind} with {live} components in a module of rank {rank}")
    origins = _origins(numbers, live) if KINDS[kind] == REFINED else _values(numbers, 0, 0, _GAINS)
    runs = []
    for refines, count in ((True, len(origins)), (False, live - len(origins))):
        runs.append(_values(numbers, count, last.get(refines, 0), _MOVES if refines else _GAINS))
        last.update({refines: int(runs[-1][0])} if count else {})
    there = (KINDS[kind] == REFINED, KINDS[kind] == ROWS, KINDS[kind] != NONE)
    classes = [_values(numbers, live * has, 0, _CLASSES) for has in there]
    return Choice(KINDS[kind], np.concatenate(runs), origins, *classes)


def _origins(numbers: Iterator[int], live: int) -> Ints:
    """Indices of components of the reference, ascending: for each how many are left out before it."""
    count = next(numbers)
    if count > live:
        raise IntegrityError(f"coded adapter: {count} of {live} components refine the reference's")
    gaps = [1 + min(next(numbers), _MOST) for _ in range(count)]
    return np.array(list(accumulate(gaps)), np.int64) - 1
