"""Safetensors files of every kind, byte by byte: what a lossless codec must give back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

SPECIALS = {
    "F32": [0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x7F800001, 1, 0x80000001, 0x007FFFFF, 0x7F7FFFFF, 0],
    "F16": [0x8000, 0x7C00, 0xFC00, 0x7E01, 0xFFFF, 0x7C01, 1, 0x8001, 0x03FF, 0x7BFF, 0],
    "BF16": [0x8000, 0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x7F81, 1, 0x8001, 0x007F, 0x7F7F, 0],
    "F64": [1 << 63, 0x7FF << 52, 0xFFF << 52, (0x7FF8 << 48) + 1, 2**64 - 1, (0x7FF << 52) + 1, 1, (1 << 63) + 1, 0],
}  # −0, ±inf, quiet, full and signalling NaN with payloads, smallest subnormals, largest values, 0
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def normal(dtype: str, count: int, seed: int = 0, reference: bytes | None = None, step: float = 0.0) -> bytes:
    """Values as training leaves them, N(0, 0.02²); with ``reference`` its values, a little changed."""
    values = 0.02 * np.random.default_rng(seed).standard_normal(count)
    if reference is not None:
        values = step * values + floats(dtype, reference)
    return bits(dtype, values)


def bits(dtype: str, values: np.ndarray) -> bytes:
    if dtype == "BF16":
        return (np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return np.asarray(values, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def floats(dtype: str, data: bytes) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)


def specials(dtype: str, among: int = 200) -> bytes:
    """Every special value once, among usual ones."""
    width = WIDTHS[dtype]
    return b"".join(value.to_bytes(width, "little") for value in SPECIALS[dtype]) + normal(dtype, among)


def file(tensors: Mapping[str, tuple[str, list[int], bytes]], *, metadata: Any = None, pad: int = 0, gap: int = 0) -> bytes:
    """A safetensors file: (dtype, shape, bytes) by name in this order; ``pad`` blanks after the header, ``gap`` bytes between
    tensors and after the last one (which safetensors forbids)."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    parts, at = [], 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        parts.append(data + b"\x5a" * gap)
        at += len(data) + gap
    text = json.dumps(header).encode() + b" " * pad
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def adapter(
    dtype: str = "F32", *, count: int = 3000, seed: int = 0, reference: bytes | None = None, step: float = 0.1
) -> bytes:
    """Two factors; with ``reference`` (another file of this function) its values, changed by ``step`` of their size."""
    start = 0 if reference is None else 8 + int.from_bytes(reference[:8], "little")
    tensors = {}
    for number, name in enumerate("AB"):
        size = count * WIDTHS[dtype]
        before = None if reference is None else reference[start + number * size : start + (number + 1) * size]
        data = normal(dtype, count, seed=2 * seed + number, reference=before, step=step)
        tensors[f"base_model.model.layer.lora_{name}.weight"] = (dtype, [count // 10, 10], data)
    return file(tensors, metadata={"format": "pt"})
