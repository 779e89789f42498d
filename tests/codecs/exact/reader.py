"""A slow reader of losslessly coded objects, made from ``docs/formats.md`` alone: Python's integers and zstandard."""

from __future__ import annotations

from hashlib import sha256

import zstandard


def read(data: bytes, reference: bytes | None = None) -> bytes:
    """The file of an object."""
    assert data[:8] == b"ABEXACT\n" and number(data[8:10]) == 1
    assert sha256(data[:-32]).digest() == data[-32:]
    references, blocks, size, digest = number(data[10:12]), number(data[12:16]), number(data[16:24]), data[24:56]
    at, file = 56 + 40 * references, b""
    for _ in range(blocks):
        coding, width, shift, differs = data[at : at + 4]
        raw, length = number(data[at + 4 : at + 8]), number(data[at + 8 : at + 12])
        at += 12 + 8 * differs
        place = number(data[at - 8 : at])
        items = decode(coding, Streams(data[at : at + length]), raw // width, 8 * width, shift)
        if differs:
            assert reference is not None and data[56:88] == sha256(reference).digest()
            items = [plus(item, number(reference[place + k * width :][:width]), 8 * width) for k, item in enumerate(items)]
        file += b"".join(item.to_bytes(width, "little") for item in items)
        at += length
    assert (at, len(file), sha256(file).digest()) == (len(data) - 32, size, digest)
    return file


class Streams:
    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def take(self, count: int) -> bytes:
        part, self.payload = self.payload[:count], self.payload[count:]
        return part

    def next(self) -> bytes:
        kind = self.take(1)[0]
        part = self.take(number(self.take(4)))
        return zstandard.decompress(part) if kind else part


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def decode(coding: int, streams: Streams, n: int, b: int, shift: int) -> list[int]:
    if coding == 0:
        data = streams.next()
        return [number(data[k * b // 8 : (k + 1) * b // 8]) for k in range(n)]
    if coding == 1:
        return whole(streams, b // 8, n)
    if coding == 2:
        top, k = number(streams.take(8)), streams.take(1)[0]
        upper = [top - below for below in whole(streams, k, n)]
        rest, left = whole(streams, (shift + 1) // 8, n), (shift + 1) % 8
        if left:
            bits = packed(streams.next(), n, left)
            rest = [low + (high << (shift + 1 - left)) for low, high in zip(rest, bits, strict=True)]
        return [(r >> shift << (b - 1)) + (u << shift) + r % (1 << shift) for u, r in zip(upper, rest, strict=True)]
    lengths = streams.next()
    items = [0 if c < 4 else 1 if c < 8 else 2 + c % 4 if c < 12 else 4 + c % 4 for c in lengths]
    for length in range(4, b + 1):
        chosen = [at for at, c in enumerate(lengths) if c // 4 == length]
        low = packed(streams.next(), len(chosen), length - 3) if chosen else []
        for at, bits in zip(chosen, low, strict=True):
            items[at] = (items[at] << (length - 3)) + bits
    return items


def whole(streams: Streams, count: int, n: int) -> list[int]:
    planes = [streams.next() for _ in range(count)]
    return [sum(plane[k] << (8 * place) for place, plane in enumerate(planes)) for k in range(n)]


def packed(data: bytes, n: int, bits: int) -> list[int]:
    text = "".join(f"{byte:08b}" for byte in data)
    return [int(text[k * bits : (k + 1) * bits], 2) for k in range(n)]


def plus(folded: int, other: int, b: int) -> int:
    """The item whose difference to ``other`` is ``folded``."""
    distance = -(folded + 1) // 2 if folded % 2 else folded // 2
    place = (2**b - 1 - other if other >> (b - 1) else other + 2 ** (b - 1)) + distance
    place %= 2**b
    return place - 2 ** (b - 1) if place >> (b - 1) else 2**b - 1 - place
