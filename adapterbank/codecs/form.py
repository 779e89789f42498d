"""The coded form of one adapter as an object: what its bytes are, and what they mean. See docs/formats.md.

Little-endian: magic ``ABRD``, format, log₂ of the trellis's states, flags, √Δ as float32, six lengths; then the sections in the
order of :class:`Sections`, and the first eight bytes of the SHA-256 of everything before them.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import astuple, dataclass, fields
from math import isfinite
from typing import Any

import zstandard

from adapterbank.codecs.payload import Payload
from adapterbank.codecs.trellis import STATES
from adapterbank.container import canonical_json
from adapterbank.errors import IntegrityError
from adapterbank.lora.layout import ModuleShape

MAGIC, FORMAT = b"ABRD", 1
_HEAD = struct.Struct("<4sHBBf7I")
_CHECK = 8
_LEVEL = 19
_LARGEST = 1 << 26  # bytes of a layout
_ROOM, _RATIO = 1 << 20, 1 << 15  # a frame holds at most so many bytes, and so many for each of its own
_WIDEST = 1 << 26  # a size of a module
_KINDS = ("linear", "embedding", "conv", "expert")
REFERENCES = 4  # that an object needs at most
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Sections:
    """``about``: layout and references, JSON through zstandard; ``choices``: per module what was kept; then the payload's four
    runs; ``extras``: the tensors that are no LoRA factor, an object of the container through zstandard, or nothing."""

    about: bytes
    choices: bytes
    states: bytes
    words: bytes
    raw: bytes
    escapes: bytes
    extras: bytes

    @property
    def payload(self) -> Payload:
        return Payload(self.states, self.words, self.raw, self.escapes)


@dataclass(frozen=True, slots=True)
class Form:
    """An object taken apart: ``root_step`` is √Δ, ``references`` the digests of the objects that it needs."""

    states: int
    root_step: float
    shapes: tuple[ModuleShape, ...]
    references: tuple[str, ...]
    sections: Sections


def write(states: int, root_step: float, sections: Sections) -> bytes:
    """The object."""
    parts = astuple(sections)
    head = _HEAD.pack(MAGIC, FORMAT, states.bit_length() - 1, 0, root_step, *map(len, parts))
    body = b"".join((head, *parts))
    return body + hashlib.sha256(body).digest()[:_CHECK]


def about(shapes: tuple[ModuleShape, ...], references: tuple[str, ...]) -> bytes:
    """The section ``about``."""
    body: dict[str, Any] = {"layout": [astuple(shape) for shape in shapes]}
    if references:
        body["references"] = list(references)
    return packed(canonical_json(body).encode())


def read(data: Any) -> Form:
    """Take an object apart. Raises IntegrityError if it is none, is damaged, or of a later format."""
    view = memoryview(data)
    if len(view) < _HEAD.size + _CHECK or bytes(view[:4]) != MAGIC:
        raise IntegrityError("not a coded adapter: its first bytes are others")
    _, version, log_states, flags, root_step, *sizes = _HEAD.unpack(view[: _HEAD.size])
    if version != FORMAT or flags:
        raise IntegrityError(f"coded adapter of format {version} with flags {flags}, expected format {FORMAT}")
    if hashlib.sha256(view[:-_CHECK]).digest()[:_CHECK] != bytes(view[-_CHECK:]):
        raise IntegrityError("coded adapter: its checksum is not that of its bytes", hint="adapterbank verify")
    if not (isfinite(root_step) and root_step > 0.0):
        raise IntegrityError(f"coded adapter: √Δ is {root_step}, expected a positive number")
    if sum(sizes) + _HEAD.size + _CHECK != len(view) or 1 << log_states not in STATES:
        raise IntegrityError(f"coded adapter: sections of {sum(sizes)} bytes in an object of {len(view)}")
    parts, at = [], _HEAD.size
    for size in sizes:
        parts.append(bytes(view[at : at + size]))
        at += size
    sections = Sections(*parts)
    shapes, references = _about(sections.about)
    return Form(1 << log_states, root_step, shapes, references, sections)


def packed(data: bytes) -> bytes:
    """``data`` made smaller by zstandard, its size stated."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)


def unpacked(data: bytes, largest: int = _LARGEST) -> bytes:
    """What zstandard made smaller. Raises IntegrityError for other bytes, or more than ``largest``."""
    try:
        size = zstandard.frame_content_size(data)
        most = min(largest, _ROOM + len(data) * _RATIO)
        if not 0 <= size <= most:
            raise IntegrityError(f"coded adapter: a section of {size} bytes, expected at most {most}")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=size))
    except zstandard.ZstdError as reason:
        raise IntegrityError(f"coded adapter: {reason}") from None


def _about(data: bytes) -> tuple[tuple[ModuleShape, ...], tuple[str, ...]]:
    try:
        body = json.loads(unpacked(data))
        shapes = tuple(_shape(*entry) for entry in body["layout"])
        references = tuple(body.get("references", ()))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as reason:
        raise IntegrityError(f"coded adapter: what it is about cannot be read: {reason}") from None
    if len({shape.name for shape in shapes}) < len(shapes):
        raise IntegrityError("coded adapter: two modules of one name")
    if len(references) > REFERENCES or not all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in references):
        raise IntegrityError(f"coded adapter: references {references!r:.200}, expected at most {REFERENCES} digests")
    return shapes, references


def _shape(name: Any, d_out: Any, d_in: Any, rank: Any, kind: Any, kernel: Any) -> ModuleShape:
    """The shape of one entry of the layout. Raises TypeError or ValueError."""
    sizes = (d_out, d_in, rank, *kernel)
    if not (isinstance(name, str) and kind in _KINDS and isinstance(kernel, list)):
        raise TypeError(f"module {name!r:.200} of kind {kind!r:.200}")
    if not all(type(size) is int and 0 <= size <= _WIDEST for size in sizes):
        raise ValueError(f"module {name!r:.200} has sizes {sizes!r:.200}, expected 0 to {_WIDEST}")
    return ModuleShape(name, d_out, d_in, rank, kind, tuple(kernel))


assert len(fields(Sections)) == 7  # as many lengths as _HEAD has
