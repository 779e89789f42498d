"""What was chosen for each module, as bytes: the prediction, the gains of the kept components, and their classes where they
do not follow from the gains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.classes import class_of
from adapterbank.codecs.form import packed as packed_section
from adapterbank.codecs.form import unpacked
from adapterbank.codecs.prediction import KINDS, ROWS
from adapterbank.codecs.rawbits import folded, read_varints, unfolded, varints
from adapterbank.errors import IntegrityError

# ŝ/Δ from 2⁻¹⁰ to 2⁶⁰ and σ/Δ from 2⁻⁶⁰ to 2⁶⁰: more than float32 needs
_GAINS, _CLASSES = range(-240, 1441), range(-360, 361)

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Of one module: the kind of prediction, gain indices ``[L]``, and with rows the classes of the coefficients and of the
    rest of each right vector ``[L]``."""

    kind: str
    gains: Ints
    coefficient_classes: Ints
    rest_classes: Ints

    def sizes(self, d_out: int, d_in: int, rows: int) -> list[int]:
        """Samples of each vector, in the order of the payload: x, coefficients on so many ``rows``, y."""
        live = len(self.gains)
        return [d_out] * live + ([rows] * live if self.kind == ROWS else []) + [d_in] * live

    def classes(self, d_out: int, d_in: int) -> list[int]:
        """The classes of the same vectors."""
        x = [class_of(int(gain), d_out) for gain in self.gains]
        if self.kind == ROWS:
            return [*x, *self.coefficient_classes.tolist(), *self.rest_classes.tolist()]
        return x + [class_of(int(gain), d_in) for gain in self.gains]


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
    try:
        found, last = [], 0
        for rank in ranks:
            choice = _choice(numbers, rank, last)
            last = int(choice.gains[0]) if len(choice.gains) else last
            found.append(choice)
    except StopIteration:
        raise IntegrityError("coded adapter: its choices end too early") from None
    if next(numbers, None) is not None:
        raise IntegrityError("coded adapter: more choices than modules")
    return found


def _numbers(choices: Sequence[Choice]) -> Iterator[int]:
    last = 0
    for choice in choices:
        yield KINDS.index(choice.kind)
        yield len(choice.gains)
        yield from _differences(choice.gains.tolist(), last)
        last = int(choice.gains[0]) if len(choice.gains) else last
        if choice.kind == ROWS:
            yield from _differences(choice.coefficient_classes.tolist(), 0)
            yield from _differences(choice.rest_classes.tolist(), 0)


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


def _choice(numbers: Iterator[int], rank: int, last: int) -> Choice:
    kind, live = next(numbers), next(numbers)
    most = rank if kind == KINDS.index(ROWS) or kind == 0 else 1 << 16
    if kind >= len(KINDS) or live > most:
        raise IntegrityError(f"coded adapter: prediction {kind} with {live} components in a module of rank {rank}")
    gains = _values(numbers, live, last, _GAINS)
    count = live if KINDS[kind] == ROWS else 0
    few, rest = _values(numbers, count, 0, _CLASSES), _values(numbers, count, 0, _CLASSES)
    return Choice(KINDS[kind], gains, few, rest)
