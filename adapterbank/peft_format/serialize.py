"""Tensors to the bytes of a safetensors file, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterbank.peft_format.header import ITEM_BYTES
from adapterbank.peft_format.reader import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def serialize(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file with the one metadata key ``format: pt``; order of item size, then name, so all is aligned."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in ordered:
        dtype = _NAMES[tensor.dtype]
        end = at + tensor.numel() * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(_raw(tensor) for _, tensor in ordered)])


def _raw(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
