"""Our own objects: safetensors files with exactly one metadata key that holds canonical JSON.

With more than one key the order of keys, and so the digest, changes between saves (safetensors 0.8). The header is
planned before the data exist, so that tensors are written straight into a mapped file: a basis of any size is streamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapterbank.errors import IntegrityError

if TYPE_CHECKING:
    from torch import Tensor

KEY = "adapterbank"
_ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_SAFETENSORS = {name: code for code, name in _TORCH.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to come: its name, safetensors dtype (``"F32"``) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def like(cls, name: str, tensor: Tensor) -> TensorSpec:
        """The place of ``tensor`` under ``name``."""
        return cls(name, _SAFETENSORS[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))

    @property
    def nbytes(self) -> int:
        size = _ITEM[self.dtype]
        for n in self.shape:
            size *= n
        return size


@dataclass(frozen=True)
class Plan:
    """The header bytes of an object and where each tensor's bytes go; ``size`` is the whole object in bytes."""

    header: bytes
    specs: Mapping[str, tuple[TensorSpec, int, int]]
    size: int


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plan(specs: Iterable[TensorSpec], metadata: Mapping[str, Any]) -> Plan:
    """Lay out ``specs`` in order of item size, then name, so that every tensor is aligned to its items."""
    ordered = sorted(specs, key=lambda spec: (-_ITEM[spec.dtype], spec.name))
    entries: dict[str, Any] = {"__metadata__": {KEY: canonical_json(metadata)}}
    at, places = 0, {}
    for spec in ordered:
        entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [at, at + spec.nbytes]}
        places[spec.name] = (spec, at, at + spec.nbytes)
        at += spec.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    shifted = {name: (spec, len(header) + begin, len(header) + end) for name, (spec, begin, end) in places.items()}
    return Plan(header, shifted, len(header) + at)


def tensors(buffer: Any, layout: Plan) -> dict[str, Tensor]:
    """Tensors that are views into ``buffer`` (a bytearray or a writable mapping of ``layout.size`` bytes)."""
    import torch

    found = {}
    for name, (spec, begin, _) in layout.specs.items():
        dtype = getattr(torch, _TORCH[spec.dtype])
        count = spec.nbytes // _ITEM[spec.dtype]
        flat = torch.frombuffer(buffer, dtype=dtype, count=count, offset=begin) if count else torch.empty(0, dtype=dtype)
        found[name] = flat.view(spec.shape)
    return found


def read(buffer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors (views) of one of our objects; IntegrityError if it is none. The caller checked its digest."""
    metadata, layout = _parsed(buffer)
    return metadata, tensors(buffer, layout)


def read_metadata(buffer: Any) -> dict[str, Any]:
    """The metadata alone, without torch; IntegrityError as for ``read``."""
    return _parsed(buffer)[0]


def _parsed(buffer: Any) -> tuple[dict[str, Any], Plan]:
    try:
        length = int.from_bytes(bytes(buffer[:8]), "little")
        entries = json.loads(bytes(buffer[8 : 8 + length]))
        metadata = json.loads(entries.pop("__metadata__")[KEY])
        specs = [TensorSpec(name, e["dtype"], tuple(e["shape"])) for name, e in entries.items()]
    except (ValueError, KeyError, TypeError) as reason:
        raise IntegrityError(f"not an adapterbank object: {reason}") from None
    layout = plan(specs, metadata)
    if layout.size != len(buffer) or layout.header != bytes(buffer[: len(layout.header)]):
        raise IntegrityError(f"object of {len(buffer)} bytes is not laid out as its header says ({layout.size} bytes expected)")
    return metadata, layout


def write(named: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """One object in memory."""
    layout = plan([TensorSpec.like(name, tensor) for name, tensor in named.items()], metadata)
    buffer = bytearray(layout.size)
    buffer[: len(layout.header)] = layout.header
    for name, view in tensors(buffer, layout).items():
        view.copy_(named[name])
    return bytes(buffer)
