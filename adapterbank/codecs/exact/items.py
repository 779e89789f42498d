"""Bits of values as unsigned integers: packed to any width, in the order of the values, and as differences to a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = NDArray[Any]  # unsigned integers of 1, 2, 4 or 8 bytes, little-endian, one dimension
WIDTHS = (1, 2, 4, 8)


def items(data: Any, width: int) -> Items:
    """A view of ``data`` as items of ``width`` bytes."""
    return np.frombuffer(data, dtype=f"<u{width}")


def pack(values: Items, bits: int) -> bytes:
    """The low ``bits`` of each value, highest first, one value after another without gaps; the last byte filled with zeros."""
    matrix = (values[:, None] >> np.arange(bits - 1, -1, -1, dtype=values.dtype)) & values.dtype.type(1)
    return np.packbits(matrix.astype(np.uint8)).tobytes()


def packed_size(count: int, bits: int) -> int:
    """Length of what ``pack`` returns."""
    return (count * bits + 7) // 8


def unpack(data: Any, count: int, bits: int, width: int) -> Items:
    """The values that ``pack`` was given."""
    matrix = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count * bits).reshape(count, bits)
    values = np.zeros(count, dtype=f"<u{width}")
    for column in range(bits):
        values = (values << values.dtype.type(1)) | matrix[:, column]
    return values


def difference(values: Items, reference: Items) -> Items:
    """The distance from ``reference`` in the order of floating-point numbers, modulo 2^b, folded: 0, −1, 1, −2 → 0, 1, 2, 3."""
    distance = _ordered(values) - _ordered(reference)
    top = distance.dtype.type(8 * distance.itemsize - 1)
    folded: Items = (distance << distance.dtype.type(1)) ^ (distance.dtype.type(0) - (distance >> top))
    return folded


def addition(folded: Items, reference: Items) -> Items:
    """The values that ``difference`` was given."""
    one = folded.dtype.type(1)
    distance = (folded >> one) ^ (folded.dtype.type(0) - (folded & one))
    return _unordered(_ordered(reference) + distance)


def _ordered(values: Items) -> Items:
    """IEEE bits as integers that are ordered as the numbers are: negative ones complemented, the sign of the others set."""
    sign = values.dtype.type(1 << (8 * values.itemsize - 1))
    return np.where(values & sign, ~values, values | sign)


def _unordered(values: Items) -> Items:
    sign = values.dtype.type(1 << (8 * values.itemsize - 1))
    return np.where(values & sign, values ^ sign, ~values)
