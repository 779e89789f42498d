"""Byte streams inside a block: each raw, or a zstandard frame where that is smaller."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import zstandard

from adapterbank.errors import IntegrityError

RAW, ZSTD = 0, 1
_PREFIX = struct.Struct("<BI")
# Symbols without repetitions: hardly any matches are looked for, so that nearly all is left to zstandard's Huffman coder.
# At the usual levels chance matches of three bytes cost more than they save: 3 % of a 16-bit tensor.
_SYMBOLS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_LAZY,
    window_log=17,
    hash_log=6,
    chain_log=6,
    search_log=1,
    min_match=7,
    write_content_size=True,
    write_checksum=False,
)


def symbols(data: bytes) -> bytes:
    """``data`` as a stream, the smallest of raw, Huffman coded, and with repetitions taken out."""
    return _smallest(data, zstandard.ZstdCompressor(compression_params=_SYMBOLS), zstandard.ZstdCompressor(level=3))


def text(data: bytes) -> bytes:
    """``data`` as a stream: any bytes, such as headers; more work for repetitions."""
    return _smallest(data, zstandard.ZstdCompressor(level=15))


def _smallest(data: bytes, *coders: zstandard.ZstdCompressor) -> bytes:
    best, kind = data, RAW
    for coder in coders:
        coded = coder.compress(data)
        if len(coded) < len(best):
            best, kind = coded, ZSTD
    return _PREFIX.pack(kind, len(best)) + best


@dataclass(slots=True)
class Reader:
    """Takes the parts of a payload one after another; IntegrityError where it is too short, too long or damaged."""

    data: memoryview
    at: int = 0

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        if count < 0 or self.at + count > len(self.data):
            raise IntegrityError(f"a coded block ends after {len(self.data)} bytes, {self.at + count} expected")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def stream(self, size: int) -> bytes:
        """The next stream, which must hold ``size`` bytes: checked before any is decoded."""
        kind, length = _PREFIX.unpack(self.take(_PREFIX.size))
        coded = self.take(length)
        if kind == RAW and length == size:
            return bytes(coded)
        try:
            if kind != ZSTD or zstandard.frame_content_size(coded) != size:
                raise IntegrityError(f"a stream of a coded block does not hold {size} bytes")
            return zstandard.ZstdDecompressor().decompress(coded, max_output_size=size, allow_extra_data=False)
        except (zstandard.ZstdError, ValueError) as reason:
            raise IntegrityError(f"a stream of a coded block is damaged: {reason}") from None

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise IntegrityError(f"a coded block has {len(self.data) - self.at} bytes too many")
