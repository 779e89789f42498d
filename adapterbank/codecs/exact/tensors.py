"""Where the tensors of a safetensors file are. Read to code better, never to decode: any bytes are a file here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
MANTISSA = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}  # bits of it; a dtype that is not here holds no fractions
_HEADER_BYTES = 25_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes ``begin`` to ``end`` of a file, items of ``width`` bytes: of the tensor ``name``, or of none (``None``)."""

    begin: int
    end: int
    width: int = 1
    dtype: str = ""
    name: str | None = None


def spans(file: Any) -> list[Span]:
    """The header, the tensors and what is between and after them, in order, together all of ``file``.

    Where the header cannot be read, or tensors overlap, the whole file is one span of bytes.
    """
    try:
        found = _tensors(file)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        found = []
    return list(_filled(found, len(file))) if found else [Span(0, len(file))]


def by_name(file: Any) -> Mapping[str, Span]:
    """The tensors of ``file``."""
    return {span.name: span for span in spans(file) if span.name is not None}


def _tensors(file: Any) -> list[Span]:
    start = 8 + int.from_bytes(bytes(file[:8]), "little")
    if not 8 < start <= min(len(file), _HEADER_BYTES):
        return []
    entries = json.loads(bytes(file[8:start]).decode("utf-8"))
    entries.pop("__metadata__", None)
    found = []
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= len(file) - start:
            return []
        dtype = str(entry["dtype"])
        width = _WIDTHS.get(dtype, 1)
        if (end - begin) % width:
            dtype, width = "", 1
        if begin < end:
            found.append(Span(start + begin, start + end, width, dtype, name))
    found.sort(key=lambda span: (span.begin, span.end))
    overlap = any(left.end > right.begin for left, right in pairwise(found))
    return [] if overlap else found


def _filled(found: list[Span], size: int) -> Iterator[Span]:
    at = 0
    for span in found:
        if span.begin > at:
            yield Span(at, span.begin)
        yield span
        at = span.end
    if at < size:
        yield Span(at, size)
