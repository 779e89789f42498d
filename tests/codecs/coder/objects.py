"""Objects taken apart and put together again with a right checksum: not damaged, but hostile."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from typing import Any

import zstandard

from . import slow_decoder

HEAD, CHECK = 40, 8


def sealed(data: bytes) -> bytes:
    """``data`` with the checksum that its other bytes have."""
    return data[:-CHECK] + sha256(data[:-CHECK]).digest()[:CHECK]


def rebuilt(data: bytes, **sections: bytes) -> bytes:
    """``data`` with other sections."""
    parts = slow_decoder.taken_apart(data)[2] | sections
    head = data[:12] + struct.pack("<7I", *map(len, parts.values()))
    return sealed(head + b"".join(parts.values()) + bytes(CHECK))


def about(data: bytes) -> dict[str, Any]:
    return json.loads(zstandard.ZstdDecompressor().decompress(slow_decoder.taken_apart(data)[2]["about"]))


def packed(body: Any) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return zstandard.ZstdCompressor().compress(text)


def with_layout(data: bytes, module: int, **changes: Any) -> bytes:
    """``data`` whose layout says something else of one module."""
    body = about(data)
    for field, value in changes.items():
        body["layout"][module][("name", "d_out", "d_in", "rank", "kind", "kernel").index(field)] = value
    return rebuilt(data, about=packed(body))


def claiming(size: int) -> bytes:
    """A zstandard frame that says it holds so many bytes."""
    return bytes.fromhex("28b52ffde0") + size.to_bytes(8, "little") + b"\x01\x00\x00"


def varints(numbers: list[int]) -> bytes:
    out = bytearray()
    for value in numbers:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
