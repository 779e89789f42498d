"""One block: coded in every way that may suit it, of which the smallest is taken; and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterbank.codecs.exact.codings import (
    bytes_from,
    bytes_to,
    classes_from,
    classes_to,
    planes_from,
    planes_to,
    split_from,
    split_to,
)
from adapterbank.codecs.exact.items import Items, addition, difference, items
from adapterbank.codecs.exact.layout import BLOCK, CODINGS, PLACE, Block
from adapterbank.codecs.exact.streams import Reader
from adapterbank.codecs.exact.tensors import MANTISSA
from adapterbank.errors import IntegrityError

_FINEST = 3  # bits of the mantissa that may be coded with the exponent
_WIDEST_CLASSES = 4  # bytes: their classes fit one byte


def coded(data: Any, width: int, dtype: str, reference: Any = None, place: int = 0) -> bytes:
    """Head and payload of a block in its smallest coding; ``reference`` are the bytes at ``place`` of the reference file."""
    values = items(data, width)
    best: bytes | None = None
    for coding, shift, differs, payload in _candidates(values, dtype, reference):
        head = BLOCK.pack(CODINGS.index(coding), width, shift, differs, len(data), len(payload))
        block = head + (PLACE.pack(place) if differs else b"") + payload
        if best is None or len(block) < len(best):
            best = block
    assert best is not None
    return best


def _candidates(values: Items, dtype: str, reference: Any) -> Iterator[tuple[str, int, int, bytes]]:
    """(coding, shift, whether a difference, payload)."""
    yield "bytes", 0, 0, bytes_to(values)
    if values.itemsize > 1:
        yield "planes", 0, 0, planes_to(values)
    if dtype in MANTISSA:
        for fine in range(_FINEST + 1):
            shift = MANTISSA[dtype] - fine
            yield "split", shift, 0, split_to(values, shift)
    if reference is not None:
        folded = difference(values, items(reference, values.itemsize))
        yield "planes", 0, 1, planes_to(folded)
        if values.itemsize <= _WIDEST_CLASSES:
            yield "classes", 0, 1, classes_to(folded)


def decoded(data: memoryview, block: Block, reference: Any) -> bytes:
    """The bytes of the file that ``block`` of the object ``data`` holds. Raises IntegrityError."""
    reader, count = Reader(data[block.begin : block.end]), block.raw // block.width
    if block.coding == "bytes":
        values = bytes_from(reader, count, block.width)
    elif block.coding == "planes":
        values = planes_from(reader, count, block.width)
    elif block.coding == "split":
        values = split_from(reader, count, block.width, block.shift)
    elif block.width <= _WIDEST_CLASSES:
        values = classes_from(reader, count, block.width)
    else:
        raise IntegrityError(f"a block of {block.width}-byte items has no classes")
    reader.end()
    if block.place is not None:
        values = addition(values, items(reference[block.place : block.place + block.raw], block.width))
    return values.tobytes()
