"""Small objects at rest: one zstandard frame against a dictionary of configurations, where that takes less than half.

Which frame it is does not matter to anybody: an object is named and verified by its content. One byte more makes the exclusive
or of all bytes zero: some flipped bits only copy the same text from elsewhere, and would stay unseen on a failing disk.
Source of the frame's format: RFC 8878.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import xor
from pathlib import Path

import zstandard

SUFFIX = ".z1"
LARGEST = 1 << 16  # bytes of content: what is larger gains nothing from the dictionary
_MAGIC = zstandard.FRAME_HEADER
_LEVEL = 19


def compress(content: bytes | bytearray | memoryview) -> bytes | None:
    """The bytes of a compressed file, or None if ``content`` is too large or they would be half as many or more."""
    size = memoryview(content).nbytes
    if not 0 < size <= LARGEST:
        return None
    compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_dictionary(), write_content_size=True, write_checksum=False)
    frame = bytes(compressor.compress(content))[len(_MAGIC) :]
    packed = frame + bytes([reduce(xor, frame)])
    return packed if 2 * len(packed) < size else None


def expand(packed: bytes) -> bytes | None:
    """The content of a compressed file, or None if ``compress`` made no such bytes. No memory is taken above ``LARGEST``."""
    if not packed or reduce(xor, packed) != 0:
        return None
    frame = _MAGIC + packed[:-1]
    try:
        if not 0 < zstandard.frame_content_size(frame) <= LARGEST:  # -1: it does not say, and would grow as it likes
            return None
        decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary())
        return bytes(decompressor.decompress(frame, max_output_size=LARGEST, allow_extra_data=False))
    except zstandard.ZstdError:
        return None


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    """Dictionary 1, frozen for ever: configurations as PEFT 0.5 to 0.21 write them, and words that are frequent in them."""
    data = Path(__file__).with_name("dictionary1.txt").read_bytes()
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
