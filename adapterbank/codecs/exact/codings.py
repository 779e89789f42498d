"""The ways to code a block of items, each a pair of functions: items to bytes, and bytes to items."""

from __future__ import annotations

import struct

import numpy as np

from adapterbank.codecs.exact.items import Items, pack, packed_size, unpack
from adapterbank.codecs.exact.streams import Reader, symbols, text
from adapterbank.errors import IntegrityError

_TOP = struct.Struct("<QB")
_FINE = 2  # bits below the leading one that are coded with it


def bytes_to(values: Items) -> bytes:
    """The bytes as they are; those of a header are worth more work than those of tensors."""
    return text(values.tobytes()) if values.itemsize == 1 else symbols(values.tobytes())


def bytes_from(reader: Reader, count: int, width: int) -> Items:
    """The items of ``bytes_to``."""
    return np.frombuffer(reader.stream(count * width), dtype=f"<u{width}")


def planes_to(values: Items) -> bytes:
    """One stream for the lowest bytes of all items, one for the second bytes, and so on."""
    planes = values.view(np.uint8).reshape(-1, values.itemsize)
    return b"".join(symbols(planes[:, place].tobytes()) for place in range(values.itemsize))


def planes_from(reader: Reader, count: int, width: int) -> Items:
    """The items of ``planes_to``."""
    planes = np.empty((count, width), dtype=np.uint8)
    for place in range(width):
        planes[:, place] = np.frombuffer(reader.stream(count), dtype=np.uint8)
    return planes.reshape(-1).view(f"<u{width}")


def split_to(values: Items, shift: int) -> bytes:
    """Floating-point bits in two parts: exponent with the bits of the mantissa from ``shift`` upwards, coded; and the rest.

    The first part is kept as its distance below the largest, so that it fits one byte wherever the range allows. The rest is
    the mantissa below ``shift`` with the sign on top: noise in trained weights, but not where values came from fewer bits.
    """
    kind = values.dtype.type
    upper = (values & kind((1 << (8 * values.itemsize - 1)) - 1)) >> kind(shift)
    below = upper.max() - upper
    places = _bytes_for(int(below.max()))
    sign = values >> kind(8 * values.itemsize - 1)
    rest = (values & kind((1 << shift) - 1)) | (sign << kind(shift))
    parts = [_TOP.pack(int(upper.max()), places)]
    parts += [symbols((below >> kind(8 * place)).astype(np.uint8).tobytes()) for place in range(places)]
    parts += [symbols((rest >> kind(8 * place)).astype(np.uint8).tobytes()) for place in range((shift + 1) // 8)]
    if (shift + 1) % 8:
        parts.append(symbols(pack(rest >> kind(8 * ((shift + 1) // 8)), (shift + 1) % 8)))
    return b"".join(parts)


def split_from(reader: Reader, count: int, width: int, shift: int) -> Items:
    """The items of ``split_to``."""
    kind = np.dtype(f"<u{width}").type
    top, places = _TOP.unpack(reader.take(_TOP.size))
    if not 0 < shift < 8 * width - 1 or places > width or top >> (8 * width - 1 - shift):
        raise IntegrityError(f"a block of {width}-byte items cannot be split at bit {shift} of {top:#x}")
    below = _places(reader, count, width, places)
    if below.max() > top:
        raise IntegrityError("a split block goes below its smallest exponent")
    rest = _places(reader, count, width, (shift + 1) // 8)
    if (shift + 1) % 8:
        bits = (shift + 1) % 8
        odd = unpack(reader.stream(packed_size(count, bits)), count, bits, width)
        rest |= odd << kind(8 * ((shift + 1) // 8))
    sign = (rest >> kind(shift)) << kind(8 * width - 1)
    values: Items = ((kind(top) - below) << kind(shift)) | (rest & kind((1 << shift) - 1)) | sign
    return values


def classes_to(values: Items) -> bytes:
    """Small integers: their lengths in bits with the two bits below the leading one, coded; and the remaining bits, packed."""
    lengths = _lengths(values)
    fine = np.minimum(np.maximum(lengths - 1, 0), _FINE)
    kept = np.maximum(lengths - 1 - _FINE, 0)
    leading = (values >> kept.astype(values.dtype)).astype(np.uint8)  # the leading one and the bits with it
    classes = (lengths << _FINE) + (leading - (np.uint8(1) << fine.astype(np.uint8))) * (lengths > 0)
    parts = [symbols(classes.astype(np.uint8).tobytes())]
    for length in range(_FINE + 2, 8 * values.itemsize + 1):
        chosen = values[lengths == length]
        if len(chosen):
            parts.append(symbols(pack(chosen, length - 1 - _FINE)))
    return b"".join(parts)


def classes_from(reader: Reader, count: int, width: int) -> Items:
    """The items of ``classes_to``."""
    kind = np.dtype(f"<u{width}").type
    classes = np.frombuffer(reader.stream(count), dtype=np.uint8)
    lengths = classes >> _FINE
    if lengths.max() > 8 * width:
        raise IntegrityError(f"a block of {width}-byte items has items of {int(lengths.max())} bits")
    fine = np.minimum(np.maximum(lengths.astype(np.int16) - 1, 0), _FINE).astype(np.uint8)
    leading = np.where(lengths > 0, (np.uint8(1) << fine) | (classes & np.uint8((1 << _FINE) - 1)), 0).astype(f"<u{width}")
    values = leading
    for length in range(_FINE + 2, 8 * width + 1):
        chosen = lengths == length
        if chosen.any():
            many, bits = int(chosen.sum()), length - 1 - _FINE
            low = unpack(reader.stream(packed_size(many, bits)), many, bits, width)
            values[chosen] = (leading[chosen] << kind(bits)) | low
    return values


def _places(reader: Reader, count: int, width: int, places: int) -> Items:
    """Items of the streams of their lowest bytes."""
    values = np.zeros(count, dtype=f"<u{width}")
    for place in range(places):
        values |= np.frombuffer(reader.stream(count), dtype=np.uint8).astype(values.dtype) << values.dtype.type(8 * place)
    return values


def _bytes_for(value: int) -> int:
    return max(1, (value.bit_length() + 7) // 8)


def _lengths(values: Items) -> Items:
    """The number of bits of each value, 0 for zero, as int16."""
    lengths = np.zeros(len(values), dtype=np.int16)
    for step in (32, 16, 8, 4, 2, 1):
        if step < 8 * values.itemsize:
            more = values >= values.dtype.type(1 << step)
            lengths[more] += step
            values = np.where(more, values >> values.dtype.type(step), values)
    return lengths + (values > 0)
