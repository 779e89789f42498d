"""One pass over the bytes of every tensor: SHA-256, NaN and infinity, all zero. numpy only, at about memory speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from adapterbank.peft_format.header import TensorInfo

_CHUNK = 1 << 18  # bytes; stays in the cache between the masking and the maximum
# Unsigned type, mask without the sign, smallest pattern that is infinite or NaN (exponent bits all ones).
_BITS: Mapping[str, tuple[Any, int, int]] = {
    "F64": (np.uint64, (1 << 63) - 1, 0x7FF << 52),
    "F32": (np.uint32, 0x7FFFFFFF, 0x7F800000),
    "F16": (np.uint16, 0x7FFF, 0x7C00),
    "BF16": (np.uint16, 0x7FFF, 0x7F80),
}


@dataclass(frozen=True, slots=True)
class Scan:
    """A tensor's SHA-256 (hex), and whether it has a NaN or infinity, or nothing but zeros (floating types only)."""

    digest: str
    not_finite: bool
    zero: bool


def scan(weights: Any, tensors: Mapping[str, TensorInfo]) -> dict[str, Scan]:
    """Every tensor's findings, by name. The look at the values takes a seventh of the hashing: no thread is worth it."""
    with memoryview(weights) as view:
        return {
            name: Scan(sha256(view[info.begin : info.end]).hexdigest(), *_largest(view, info)) for name, info in tensors.items()
        }


def _largest(view: memoryview, info: TensorInfo) -> tuple[bool, bool]:
    """(not finite, all zero) from the largest bit pattern without its sign: for IEEE floats it orders the sizes."""
    if info.dtype not in _BITS:
        return False, False
    unsigned, mask, limit = _BITS[info.dtype]
    values = np.frombuffer(view[info.begin : info.end], dtype=unsigned)
    step = _CHUNK // values.itemsize
    scratch = np.empty(min(step, values.size), dtype=unsigned)
    largest = 0
    for at in range(0, values.size, step):
        largest = max(largest, _masked_maximum(values[at : at + step], unsigned(mask), scratch))
        if largest >= limit:
            return True, False
    return False, largest == 0


def _masked_maximum(values: npt.NDArray[Any], mask: Any, scratch: npt.NDArray[Any]) -> int:
    return int(np.bitwise_and(values, mask, out=scratch[: values.size]).max())
