"""The samples of an adapter as bytes, and back: symbols through the lockstep coder, the rest as raw bits and escapes.

Vectors lie one after the other, ``sizes[i]`` samples each, with their classes. Raw bits are, in the order of the samples, all
hidden bits and then the sign of every magnitude that is not 0; escapes likewise. Vectors are worked through a million
samples at a time, so that memory is a few bytes per sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs import rans, rawbits
from adapterbank.codecs.lanes import LONGEST, Lanes
from adapterbank.codecs.symbols import fold, middle_bits, to_symbols, unfold
from adapterbank.codecs.tables import FINE, REGULAR, book, split_class
from adapterbank.codecs.trellis import Trellis
from adapterbank.errors import IntegrityError

_BLOCK = 1 << 20  # samples
WIDEST = 1 << 31  # a point in Δ/64 is smaller

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Four runs of bytes: the lanes' states (uint32), the words (uint16), raw bits, escapes; little-endian."""

    states: bytes
    words: bytes
    raw: bytes
    escapes: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Some vectors: where their samples lie, and for each sample its row of the tables, hidden bits and regular symbols."""

    samples: slice
    rows: Ints
    hidden: Ints
    regular: Ints


def write(k: NDArray[np.int32], q: Bytes, sizes: Ints, classes: Ints, code: Trellis) -> Payload:
    """The samples as bytes: signed integers ``k [N]`` and the quantizer ``q [N]`` of each."""
    symbols = np.empty(k.size, np.uint8)
    middle, signs, escapes = [], [], []
    for block in _blocks(sizes, classes):
        own = k[block.samples].astype(np.int64)
        m = np.abs(own)
        symbol = to_symbols(m, block.hidden, block.regular)
        symbols[block.samples] = symbol
        middle.append(rawbits.fields(middle_bits(m, block.hidden), block.hidden))
        signs.append((own[own != 0] < 0).astype(np.uint8))
        out = symbol >= REGULAR
        escapes.append(rawbits.varints(((fold(m[out], block.hidden[out]) - block.regular[out]) >> 1).tolist()))
    lanes, (rows, _) = Lanes.of(sizes), split_class(classes)
    payload, rest = rawbits.split(np.concatenate([*middle, *signs, np.zeros(0, np.uint8)]), lanes.count)
    stream = rans.encode(symbols, q, 2 * rows[lanes.vector], lanes, book().coder, payload)
    states, words = stream.states.astype("<u4").tobytes(), stream.words.astype("<u2").tobytes()
    return Payload(states, words, rest, b"".join(escapes))


def read(data: Payload, sizes: Ints, classes: Ints, code: Trellis) -> NDArray[np.int32]:
    """The points of all samples ``[N]`` in Δ/64, signed. Raises IntegrityError if the bytes are not of these vectors."""
    expected = 4 * int((-(-sizes // LONGEST)).sum())
    if len(data.states) != expected or len(data.words) % 2:
        raise IntegrityError(f"coded adapter: {len(data.states)} bytes of states, expected {expected}")
    lanes, (rows, hidden) = Lanes.of(sizes), split_class(classes)
    stream = rans.Stream(np.frombuffer(data.states, "<u4"), np.frombuffer(data.words, "<u2"))
    symbols, quantizers, payload = rans.decode(stream, 2 * rows[lanes.vector], lanes, book().coder, code)
    bits = rawbits.joined(payload, data.raw)
    middle, signs = rawbits.Reader(bits), rawbits.Reader(bits[int((hidden * sizes).sum()) :])
    escapes = rawbits.read_varints(data.escapes)
    points = np.empty(symbols.size, np.int32)
    for block in _blocks(sizes, classes):
        symbol, q = symbols[block.samples].astype(np.int64), quantizers[block.samples]
        m = unfold(_with_escapes(symbol, block.regular, escapes), middle.fields(block.hidden), block.hidden)
        shifts = np.where(block.hidden == 0, book().shifts[2 * block.rows + q, symbol], 0)
        values = np.maximum(2 * m - q, 0) * FINE + shifts
        nonzero = m != 0
        values[nonzero] *= 1 - 2 * signs.bits(int(nonzero.sum())).astype(np.int64)
        if values.size and int(np.abs(values).max()) >= WIDEST:
            raise IntegrityError("coded adapter: a magnitude beyond all bounds")
        points[block.samples] = values
    if next(escapes, None) is not None:
        raise IntegrityError("coded adapter: more escapes than symbols ask for")
    return points


def _blocks(sizes: Ints, classes: Ints) -> Iterator[_Block]:
    """Runs of whole vectors of about a million samples."""
    (rows, hidden), ends = split_class(classes), sizes.cumsum()
    first = 0
    while first < sizes.size:
        begin = int(ends[first] - sizes[first])
        stop = max(first + 1, int(np.searchsorted(ends, begin + _BLOCK, side="right")))
        own = slice(first, stop)
        row = np.repeat(rows[own], sizes[own])
        yield _Block(slice(begin, int(ends[stop - 1])), row, np.repeat(hidden[own], sizes[own]), book().regular[row])
        first = stop


def _with_escapes(symbols: Ints, regular: Ints, escapes: Iterator[int]) -> Ints:
    """The folded magnitudes of ``symbols``."""
    (where,) = np.nonzero(symbols >= REGULAR)
    result = symbols.copy()
    for place in where.tolist():
        excess = next(escapes, None)
        if excess is None or excess >= WIDEST:
            raise IntegrityError("coded adapter: an escape is missing, or beyond all bounds")
        result[place] = regular[place] + 2 * excess + (symbols[place] - REGULAR)
    return result
