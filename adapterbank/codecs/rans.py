"""Entropy coding in lockstep: one range asymmetric numeral system per lane, all lanes in one stream (Duda 2013, arXiv
1311.2540).

No kept library fits: a sample's probabilities hang on the trellis state, so on every symbol before it, and a call per symbol
takes seconds for an adapter in Python. Here a step decodes one symbol of every lane with a dozen array operations. Integers
only.

States are in [2¹⁶, 2³²), probabilities are multiples of 2⁻¹⁴, and renormalisation moves 16-bit words. A lane's state begins as
a one and 31 payload bits which the decoder finds in its last state, so that a lane costs one bit and not thirty-two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.lanes import Lanes
from adapterbank.codecs.trellis import Trellis
from adapterbank.errors import IntegrityError

PRECISION = 14
PAYLOAD = 31  # bits that a lane's first state holds
_LOW = 1 << 16
_MASK = (1 << PRECISION) - 1

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """``frequencies`` and ``starts`` ``[contexts, symbols]`` int64, each row summing to 2¹⁴; ``symbols`` ``[contexts, 2¹⁴]``
    uint8.
    """

    frequencies: Ints
    starts: Ints
    symbols: NDArray[np.uint8]

    @classmethod
    def of(cls, frequencies: Ints) -> Tables:
        ends = frequencies.cumsum(axis=1)
        slots = np.stack([np.repeat(np.arange(row.size), row) for row in frequencies]).astype(np.uint8)
        return cls(frequencies, ends - frequencies, slots)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """``states`` uint32 ``[lanes]``, and the ``words`` uint16 that all lanes draw from."""

    states: NDArray[np.uint32]
    words: NDArray[np.uint16]


def encode(symbols: Bytes, quantizers: Bytes, rows: Ints, lanes: Lanes, tables: Tables, payload: Ints) -> Stream:
    """Code ``symbols [N]`` whose probabilities are the rows ``rows[lane] + quantizer``; ``payload [lanes]`` is below 2³¹."""
    states = payload | (1 << PAYLOAD)
    frequencies, starts, width = tables.frequencies.ravel(), tables.starts.ravel(), tables.frequencies.shape[1]
    active, written = lanes.active, []
    for t in range(active.size - 1, -1, -1):
        n = int(active[t])
        place = lanes.start[:n] + t
        entry = (rows[:n] + quantizers[place]) * width + symbols[place]
        frequency, x = frequencies[entry], states[:n]
        full = x >= frequency << (32 - PRECISION)
        written.append((x[full] & 0xFFFF).astype(np.uint16))
        x = np.where(full, x >> 16, x)
        quotient = x // frequency
        states[:n] = (quotient << PRECISION) + (x - quotient * frequency) + starts[entry]
    words = np.concatenate(written[::-1]) if written else np.zeros(0, np.uint16)
    return Stream(states.astype(np.uint32), words)


def decode(stream: Stream, rows: Ints, lanes: Lanes, tables: Tables, code: Trellis) -> tuple[Bytes, Bytes, Ints]:
    """Symbols and quantizers ``[N]`` in the order of the samples, and each lane's payload ``[lanes]``.

    A symbol's context is ``rows[lane] + quantizer``, the quantizer being the lowest bit of the trellis state, which the
    parities of the symbols drive. Raises IntegrityError if the words run out or are left over, or a lane does not end as it
    began.
    """
    symbols, quantizers = np.zeros((2, lanes.samples), np.uint8)
    states, walk = stream.states.astype(np.int64), np.zeros(lanes.count, np.int64)
    words, at = stream.words, 0
    frequencies, starts, slots = tables.frequencies.ravel(), tables.starts.ravel(), tables.symbols.ravel()
    width = tables.frequencies.shape[1]
    for t, n in enumerate(lanes.active.tolist()):
        x, s = states[:n], walk[:n]
        quantizer = s & 1
        context = rows[:n] + quantizer
        slot = x & _MASK
        symbol = slots[(context << PRECISION) + slot]
        entry = context * width + symbol
        x = frequencies[entry] * (x >> PRECISION) + slot - starts[entry]
        (need,) = np.nonzero(x < _LOW)
        if at + need.size > words.size:
            raise IntegrityError(f"coded adapter: its {words.size} words end too early")
        x[need] = (x[need] << 16) | words[at : at + need.size]
        at += need.size
        place = lanes.start[:n] + t
        symbols[place], quantizers[place], states[:n] = symbol, quantizer, x
        walk[:n] = (s >> 1) ^ (quantizer * code.feedback) ^ ((symbol & 1) * np.int64(code.drive))
    if at != words.size or np.any(states >> PAYLOAD != 1):
        raise IntegrityError("coded adapter: its words do not end where its symbols do")
    return symbols, quantizers, states & ((1 << PAYLOAD) - 1)
