"""The object: head, blocks, seal; and a look at it without decoding anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from adapterbank.codecs.exact.items import WIDTHS
from adapterbank.errors import IntegrityError

MAGIC = b"ABEXACT\n"
FORMAT = 1
HEAD = struct.Struct("<8sHHIQ32s")  # magic, format, references (0 or 1), blocks, size and SHA-256 of the file
REFERENCE = struct.Struct("<32sQ")  # SHA-256 and size of the reference
BLOCK = struct.Struct("<BBBBII")  # coding, width, shift, 1 if a difference to the reference, bytes of the file, of the payload
PLACE = struct.Struct("<Q")  # where in the reference, before the payload of a difference
SEAL = 32
BLOCK_BYTES = 1 << 20
CODINGS = ("bytes", "planes", "split", "classes")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its coding, ``width`` of its items, ``raw`` bytes of the file, where its payload is, and the byte of the
    reference that its difference is to (``None``: no difference)."""

    coding: str
    width: int
    shift: int
    raw: int
    begin: int
    end: int
    place: int | None


@dataclass(frozen=True, slots=True)
class Info:
    """What an object holds: size and SHA-256 (hex) of the file, those of the reference it needs, and its blocks."""

    size: int
    digest: str
    reference: str | None
    reference_size: int
    blocks: tuple[Block, ...]


def inspect(data: Any) -> Info:
    """The object's head and blocks, after its seal was checked. Raises IntegrityError."""
    view = memoryview(data)
    if len(view) < HEAD.size + SEAL:
        raise IntegrityError(f"a losslessly coded object of {len(view)} bytes: at least {HEAD.size + SEAL} expected")
    magic, number, references, count, size, digest = HEAD.unpack(view[: HEAD.size])
    if magic != MAGIC:
        raise IntegrityError(f"a losslessly coded object begins with {bytes(magic)!r}, expected {MAGIC!r}")
    if sha256(view[:-SEAL]).digest() != view[-SEAL:]:
        raise IntegrityError("a losslessly coded object is damaged: its bytes are not those that were sealed")
    if number != FORMAT or references > 1:
        raise IntegrityError(f"format {number} of losslessly coded objects with {references} references: expected {FORMAT}")
    at, reference, reference_size = HEAD.size, None, 0
    if references:
        if len(view) < HEAD.size + REFERENCE.size + SEAL:
            raise IntegrityError("a losslessly coded object ends within its reference")
        needed, reference_size = REFERENCE.unpack(view[at : at + REFERENCE.size])
        at, reference = at + REFERENCE.size, needed.hex()
    blocks = tuple(_blocks(view[:-SEAL], at, count, reference_size))
    held = sum(block.raw for block in blocks)
    if held != size:
        raise IntegrityError(f"the blocks of a losslessly coded object hold {held} bytes, its head says {size}")
    return Info(size, digest.hex(), reference, reference_size, blocks)


def _blocks(view: memoryview, at: int, count: int, reference_size: int) -> Iterator[Block]:
    """All blocks to the end of ``view``: nothing that they claim is believed before it is checked."""
    for _ in range(count):
        if at + BLOCK.size > len(view):
            raise IntegrityError(f"a losslessly coded object ends within the head of a block, at byte {at}")
        coding, width, shift, differs, raw, length = BLOCK.unpack(view[at : at + BLOCK.size])
        at += BLOCK.size
        sound = coding < len(CODINGS) and width in WIDTHS and differs <= 1 and 0 < raw <= BLOCK_BYTES and raw % width == 0
        if not sound or at + length + PLACE.size * differs > len(view):
            raise IntegrityError(f"a block at byte {at} of a losslessly coded object makes no sense")
        place = None
        if differs:
            (place,) = PLACE.unpack(view[at : at + PLACE.size])
            at += PLACE.size
            if place + raw > reference_size:
                raise IntegrityError(f"a block at byte {at} of a losslessly coded object goes beyond its reference")
        yield Block(CODINGS[coding], width, shift, raw, at, at + length, place)
        at += length
    if at != len(view):
        raise IntegrityError(f"a losslessly coded object has {len(view) - at} bytes after its last block")
