"""A file as a losslessly coded object, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from adapterbank.codecs.exact.blocks import coded
from adapterbank.codecs.exact.layout import BLOCK_BYTES, FORMAT, HEAD, MAGIC, REFERENCE
from adapterbank.codecs.exact.tensors import MANTISSA, Span, by_name, spans
from adapterbank.errors import UsageError

_WORTH = 0.97  # a reference binds two versions together: it must save 3 % of the measured file


def worth(plain: int, referring: int) -> bool:
    """Whether an object of ``referring`` bytes is enough smaller than one of ``plain`` bytes to be bound to its reference."""
    return referring <= _WORTH * plain


def encode(file: Any, *, references: Mapping[str, Any] | None = None) -> bytes:
    """The object of ``file`` (any buffer), coded with one of ``references`` (files by SHA-256, hex) where that is worth it.

    Raises UsageError for a reference that is the file itself.
    """
    plain = b"".join(pieces(file))
    referring = (b"".join(pieces(file, reference)) for reference in (references or {}).values())
    best = min(referring, key=len, default=plain)
    return best if worth(len(plain), len(best)) else plain


def pieces(file: Any, reference: Any = None) -> Iterator[bytes]:
    """The same in parts, to be written one after another: at most a block of 1 MiB is worked on at a time.

    With ``reference``, a buffer too, tensors of the same name, dtype and size may be coded as differences to it.
    """
    whole, seal = memoryview(file), sha256()
    for piece in _unsealed(whole, None if reference is None else memoryview(reference)):
        seal.update(piece)
        yield piece
    yield seal.digest()


def _unsealed(file: memoryview, reference: memoryview | None) -> Iterator[bytes]:
    found = list(_pieces_of(spans(file)))
    digest = sha256(file).digest()
    yield HEAD.pack(MAGIC, FORMAT, 0 if reference is None else 1, len(found), len(file), digest)
    known: Mapping[str, Span] = {}
    if reference is not None:
        other = sha256(reference).digest()
        if other == digest:
            raise UsageError("a file cannot be coded with itself as the reference")
        yield REFERENCE.pack(other, len(reference))
        known = by_name(reference)
    for span, begin, end in found:
        twin = known.get(span.name) if span.name is not None else None
        data = file[begin:end]
        if reference is None or twin is None or not _alike(span, twin):
            yield coded(data, span.width, span.dtype)
        else:
            place = twin.begin + begin - span.begin
            yield coded(data, span.width, span.dtype, reference[place : place + len(data)], place)


def _pieces_of(found: list[Span]) -> Iterator[tuple[Span, int, int]]:
    """Spans cut into blocks; their beginnings are whole items, as every width divides the size of a block."""
    for span in found:
        for begin in range(span.begin, span.end, BLOCK_BYTES):
            yield span, begin, min(begin + BLOCK_BYTES, span.end)


def _alike(span: Span, twin: Span) -> bool:
    """Whether a difference between the two makes sense."""
    return span.dtype in MANTISSA and span.dtype == twin.dtype and span.end - span.begin == twin.end - twin.begin
