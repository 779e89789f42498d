"""Numbers that are stored as they are: bits in a row, and integers of seven bits to the byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.rans import PAYLOAD
from adapterbank.errors import IntegrityError

Ints = NDArray[np.int64]
Bits = NDArray[np.uint8]  # of 0 and 1


def split(bits: Bits, lanes: int) -> tuple[Ints, bytes]:
    """The first 31 bits for the state of each lane ``[lanes]``, zeros where there are none, and the rest as bytes."""
    room = lanes * PAYLOAD
    head = np.zeros(room, np.uint8)
    head[: bits.size] = bits[:room]
    weights = 1 << np.arange(PAYLOAD - 1, -1, -1, dtype=np.int64)
    return head.reshape(lanes, PAYLOAD) @ weights, np.packbits(bits[room:]).tobytes()


def joined(payload: Ints, rest: bytes) -> Bits:
    """All bits again, followed by what padded the last byte or the last lanes."""
    shifts = np.arange(PAYLOAD - 1, -1, -1, dtype=np.int64)
    head = ((payload[:, None] >> shifts) & 1).astype(np.uint8).ravel()
    return np.concatenate([head, np.unpackbits(np.frombuffer(rest, np.uint8))])


def fields(values: Ints, widths: Ints) -> Bits:
    """Each of ``values`` in so many bits, the highest first."""
    owner = np.repeat(np.arange(values.size), widths)
    below = (widths.cumsum())[owner] - np.arange(owner.size) - 1
    return ((values[owner] >> below) & 1).astype(np.uint8)


@dataclass(slots=True)
class Reader:
    """Reads ``source`` from its beginning. Raises IntegrityError where it ends too early."""

    source: Bits
    at: int = 0

    def bits(self, count: int) -> Bits:
        """The next bits."""
        self.at += count
        if self.at > self.source.size:
            raise IntegrityError(f"coded adapter: {self.source.size} raw bits, expected at least {self.at}")
        return self.source[self.at - count : self.at]

    def fields(self, widths: Ints) -> Ints:
        """The next values, each of so many bits, as :func:`fields` wrote them."""
        bits = self.bits(int(widths.sum()))
        values, ends = np.zeros(widths.size, np.int64), widths.cumsum()
        for below in range(int(widths.max(initial=0))):
            (has,) = np.nonzero(widths > below)
            values[has] |= bits[ends[has] - 1 - below].astype(np.int64) << below
        return values


def varints(values: Iterable[int]) -> bytes:
    """Non-negative integers, seven bits to the byte, the lowest first, the high bit set on all but the last byte of each."""
    out = bytearray()
    for value in values:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def read_varints(data: bytes) -> Iterator[int]:
    """What :func:`varints` wrote. Raises IntegrityError for an unfinished number, or one of more than 63 bits."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
        elif shift > 56:
            raise IntegrityError("coded adapter: a number of more than 63 bits")
    if shift:
        raise IntegrityError("coded adapter: its last number is unfinished")


def folded(value: int) -> int:
    """0, −1, 1, −2 … as 0, 1, 2, 3 …"""
    return 2 * value if value >= 0 else -2 * value - 1


def unfolded(value: int) -> int:
    """The other way."""
    return value >> 1 if value & 1 == 0 else -(value >> 1) - 1
