"""A strict reading of a safetensors header, before any library sees the file.

The library accepts duplicate names (the last wins), empty tensors with dimensions of 2⁶⁰, ``../`` in names and more;
here each such case has a code. Every byte after the header belongs to exactly one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from adapterbank.errors import Problem
from adapterbank.peft_format import strict_json
from adapterbank.peft_format.refusal import errors, refusal

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
HEADER_BYTES = 25_000_000
SPARE_BYTES, BYTES_PER_TENSOR = 1_000_000, 512  # a header over 1 MB must be filled by its tensors
TENSORS = 65_536  # 48 layers × 128 experts × 3 projections × A and B are 36,864
DIMENSIONS, DIMENSION = 4, 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_NAME_LENGTH = 512


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's safetensors dtype (``"F32"``), shape, and its bytes ``begin`` to ``end`` counted from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """Tensors by name in order of their bytes, the metadata, and where the data begin in the file."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_offset: int


def parse(weights: Any) -> Header:
    """The header of ``weights`` (a buffer with the whole file); RefusedInputError lists all problems."""
    header, problems = read(weights)
    if header is None:
        raise refusal(problems)
    return header


def read(weights: Any) -> tuple[Header | None, list[Problem]]:
    """The header, or None and every problem found in it."""
    size = len(weights)
    text, problems = _text(weights, size)
    if text is None:
        return None, problems
    try:
        # Three levels are all there is: the header, its entries, their lists.
        entries = strict_json.loads(text, depth=3)
    except strict_json.BadJSONError as reason:
        return None, [Problem(f"header_{reason.code}", f"the header of the weights: {reason}")]
    if not isinstance(entries, dict):
        return None, [Problem("header_type", f"the header is a JSON {type(entries).__name__}, expected an object")]
    metadata = entries.pop("__metadata__", {})
    problems += _metadata_problems(metadata)
    start = 8 + len(text)
    tensors = {}
    for name, entry in entries.items():
        info, found = _tensor(name, entry, start, size)
        problems += found
        if info is not None:
            tensors[name] = info
    if not entries:
        problems.append(Problem("no_tensors", "the weights file holds no tensor"))
    if errors(problems):
        return None, problems
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1].begin))
    problems += _gaps(ordered, start, size)
    return (None if errors(problems) else Header(ordered, metadata, start)), problems


def _text(weights: Any, size: int) -> tuple[bytes | None, list[Problem]]:
    if size < 8:
        return None, [Problem("header_truncated", f"the weights file has {size} bytes, a header needs at least 8")]
    length = int.from_bytes(bytes(weights[:8]), "little")
    if length > HEADER_BYTES:
        return None, [Problem("header_too_large", f"the header claims {length} bytes, at most {HEADER_BYTES} are read")]
    if length > size - 8:
        return None, [
            Problem("header_truncated", f"the header claims {length} bytes, the file has {size - 8} after its length")
        ]
    text = bytes(weights[8 : 8 + length])
    if not text.startswith(b"{"):
        return None, [Problem("header_start", f"the header begins with {text[:1]!r}, expected b'{{'")]
    count = text.count(b'"data_offsets"')
    if count > TENSORS:
        return None, [Problem("too_many_tensors", f"the header lists {count} tensors, at most {TENSORS} are read")]
    if length > SPARE_BYTES + BYTES_PER_TENSOR * count:
        return None, [Problem("header_bloated", f"a header of {length} bytes for {count} tensors")]
    return text, []


def _metadata_problems(metadata: Any) -> list[Problem]:
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return []
    return [Problem("metadata_type", "__metadata__ must map strings to strings", "__metadata__")]


def _tensor(name: str, entry: Any, start: int, size: int) -> tuple[TensorInfo | None, list[Problem]]:
    """One entry as a value with absolute offsets, or None and all that is wrong with it."""
    shown = name[:120]
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        return None, [
            Problem("tensor_name", f"the tensor name {shown!r} is not allowed: letters, digits, _ and - between dots", shown)
        ]
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return None, [Problem("tensor_entry", f"the entry of {shown} must have exactly dtype, shape and data_offsets", shown)]
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    faults = [*_dtype_faults(dtype), *_shape_faults(shape), *_offset_faults(offsets, size - start)]
    if not faults:
        expected = prod(shape) * ITEM_BYTES[dtype]
        if offsets[1] - offsets[0] != expected:
            faults.append(
                ("size_mismatch", f"{dtype}{shape} takes {expected} bytes, its offsets span {offsets[1] - offsets[0]}")
            )
    if faults:
        return None, [Problem(code, f"{shown}: {message}", shown) for code, message in faults]
    return TensorInfo(dtype, tuple(shape), start + offsets[0], start + offsets[1]), []


def _dtype_faults(dtype: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        yield "tensor_dtype", f"dtype {str(dtype)[:40]!r} is not one of {', '.join(ITEM_BYTES)}"


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _shape_faults(shape: Any) -> Iterator[tuple[str, str]]:
    if not _integers(shape):
        yield "shape_type", "the shape must be a list of integers"
    elif len(shape) > DIMENSIONS:
        yield "too_many_dims", f"{len(shape)} dimensions, at most {DIMENSIONS} are read"
    elif any(n < 0 for n in shape):
        yield "negative_dim", f"shape {shape} has a negative dimension"
    elif any(n > DIMENSION for n in shape):
        yield "dim_too_large", f"shape {shape} has a dimension above {DIMENSION}"
    elif 0 in shape:
        yield "empty_tensor", f"shape {shape} holds no element"


def _offset_faults(offsets: Any, available: int) -> Iterator[tuple[str, str]]:
    if not _integers(offsets) or len(offsets) != 2:
        yield "offsets_type", "data_offsets must be two integers"
    elif not 0 <= offsets[0] <= offsets[1]:
        yield "offsets_order", f"data_offsets {offsets} are negative or reversed"
    elif offsets[1] > available:
        yield "offsets_range", f"data_offsets {offsets} end beyond the {available} bytes of data"


def _gaps(ordered: Mapping[str, TensorInfo], start: int, size: int) -> list[Problem]:
    """Overlaps, holes and trailing bytes: the tensors must tile the data exactly."""
    problems, at, last = [], start, "the header"
    for name, info in ordered.items():
        if info.begin < at:
            problems.append(Problem("overlap", f"{name} begins inside {last}", name))
        elif info.begin > at:
            problems.append(Problem("hole", f"{info.begin - at} bytes between {last} and {name} belong to no tensor", name))
        at, last = max(at, info.end), name
    if at < size:
        problems.append(Problem("trailing_bytes", f"{size - at} bytes after the last tensor belong to none"))
    return problems
