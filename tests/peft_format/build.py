"""Small PEFT files made by hand, with numpy only: the slow obvious counterpart of the writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "<u1"}
ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
PREFIX = "base_model.model."


def raw(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A weights file from a header (a value, or its text) and the bytes after it; ``length`` lies about the header's."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int | None = None) -> dict[str, Any]:
    end = begin + int(np.prod(shape)) * ITEM[dtype] if end is None else end
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def weights(
    tensors: Mapping[str, np.ndarray], *, dtype: str = "F32", metadata: Any = None, order: list[str] | None = None
) -> bytes:
    """A well-formed file; float arrays are stored as ``dtype`` (BF16 by truncation), others as they are."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    parts, at = [], 0
    for name in order or list(tensors):
        array = np.asarray(tensors[name])
        kind = "I64" if array.dtype.kind == "i" else dtype
        data = _bytes(array, kind)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    return raw(text + b" " * (-len(text) % 8), b"".join(parts))


def _bytes(array: np.ndarray, kind: str) -> bytes:
    if kind == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype(DTYPES[kind]).tobytes()


def config(**fields: Any) -> bytes:
    """A LoRA configuration; rank 4, α 8 and everything else PEFT's default unless ``fields`` say otherwise."""
    return json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **fields}).encode()


def pair(
    module: str, r: int = 4, d_in: int = 6, d_out: int = 5, *, seed: int = 0, prefix: str = PREFIX
) -> dict[str, np.ndarray]:
    """Factors of one linear module."""
    rng = np.random.default_rng([seed, *module.encode()])
    return {
        f"{prefix}{module}.lora_A.weight": rng.standard_normal((r, d_in)).astype(np.float32),
        f"{prefix}{module}.lora_B.weight": rng.standard_normal((d_out, r)).astype(np.float32),
    }


def pairs(*modules: str, **options: Any) -> dict[str, np.ndarray]:
    """Factors of several linear modules."""
    return {key: array for module in modules for key, array in pair(module, **options).items()}


Q, V = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"


def llama(**options: Any) -> dict[str, np.ndarray]:
    """Two attention modules, the plainest adapter."""
    return pairs(Q, V, **options)
