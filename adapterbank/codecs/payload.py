"""The samples of an adapter as bytes, and back: symbols through the lockstep coder, the rest as raw bits and escapes.

Vectors are given one after the other, ``sizes[i]`` samples each, with their classes. Raw bits are, in the order of the samples,
all hidden bits and then the sign of every magnitude that is not 0; escapes likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs import rans, rawbits
from adapterbank.codecs.lanes import Lanes
from adapterbank.codecs.symbols import fold, middle_bits, to_symbols, unfold
from adapterbank.codecs.tables import FINE, REGULAR, book, split_class
from adapterbank.codecs.trellis import Trellis
from adapterbank.errors import IntegrityError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Four runs of bytes: the lanes' states (uint32), the words (uint16), raw bits, escapes; little-endian."""

    states: bytes
    words: bytes
    raw: bytes
    escapes: bytes


def write(k: Ints, q: Ints, sizes: Ints, classes: Ints, code: Trellis) -> Payload:
    """The samples as bytes: signed integers ``k [N]`` and the quantizer ``q [N]`` of each."""
    lanes, (rows, hidden) = Lanes.of(sizes), split_class(classes)
    regular = book().regular[rows]
    own, m = np.repeat(hidden, sizes), np.abs(k)
    symbols = to_symbols(m, own, np.repeat(regular, sizes))
    raw = np.concatenate([rawbits.fields(middle_bits(m, own), own), (k[k != 0] < 0).astype(np.uint8)])
    payload, rest = rawbits.split(raw, lanes.count)
    places, there = lanes.places()
    contexts = 2 * rows[lanes.vector] + np.where(there, q[places], 0)
    stream = rans.encode(symbols[places], contexts, lanes.length, book().coder, payload)
    escaped = symbols >= REGULAR
    excess = (fold(m[escaped], own[escaped]) - np.repeat(regular, sizes)[escaped]) >> 1
    return Payload(
        stream.states.astype("<u4").tobytes(), stream.words.astype("<u2").tobytes(), rest, rawbits.varints(excess.tolist())
    )


def read(data: Payload, sizes: Ints, classes: Ints, code: Trellis) -> Ints:
    """The points of all samples ``[N]`` in Δ/64, signed. Raises IntegrityError if the bytes are not of these vectors."""
    lanes, (rows, hidden) = Lanes.of(sizes), split_class(classes)
    if len(data.states) != 4 * lanes.count or len(data.words) % 2:
        raise IntegrityError(f"coded adapter: {len(data.states)} bytes of states, expected {4 * lanes.count}")
    stream = rans.Stream(np.frombuffer(data.states, "<u4"), np.frombuffer(data.words, "<u2"))
    coded, quantizers, payload = rans.decode(stream, 2 * rows[lanes.vector], lanes.length, book().coder, code)
    places, there = lanes.places()
    symbols, q = np.empty((2, int(sizes.sum())), np.int64)
    symbols[places[there]], q[places[there]] = coded[there], quantizers[there]
    own = np.repeat(hidden, sizes)
    folded_ = _with_escapes(symbols, np.repeat(book().regular[rows], sizes), data.escapes)
    bits = rawbits.joined(payload, data.raw)
    m = unfold(folded_, rawbits.read_fields(bits, own), own)
    shifts = book().shifts[2 * np.repeat(rows, sizes) + q, symbols]
    points = np.maximum(2 * m - q, 0) * FINE + np.where(own == 0, shifts, 0)
    return _signed(points, m, bits[int(own.sum()) :])


def _with_escapes(symbols: Ints, regular: Ints, escapes: bytes) -> Ints:
    """The folded magnitudes of ``symbols``."""
    (where,) = np.nonzero(symbols >= REGULAR)
    excess = list(rawbits.read_varints(escapes))
    if len(excess) != where.size or max(excess, default=0) >> 40:
        raise IntegrityError(f"coded adapter: {len(excess)} escapes, expected {where.size}")
    result = symbols.copy()
    result[where] = regular[where] + 2 * np.array(excess, np.int64) + (symbols[where] - REGULAR)
    return result


def _signed(points: Ints, m: Ints, signs: NDArray[np.uint8]) -> Ints:
    (where,) = np.nonzero(m)
    if where.size > signs.size:
        raise IntegrityError(f"coded adapter: {signs.size} signs, expected {where.size}")
    points[where] *= 1 - 2 * signs[: where.size].astype(np.int64)
    return points
