"""Factors as views into the bytes of a weights file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.peft_format import config as config_file
from adapterbank.peft_format import header as header_file
from adapterbank.peft_format import inventory as inventory_of
from adapterbank.peft_format.header import TensorInfo
from adapterbank.peft_format.inventory import Pair
from adapterbank.peft_format.refusal import refusal

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read(config: bytes, weights: Any) -> Adapter:
    """The adapter in ``weights``, a buffer with the whole file; its tensors are views of a writable buffer.

    A mapping opened with ACCESS_COPY is one; read-only bytes are copied once. ``A`` is ``[r, d_in]`` and ``B``
    ``[d_out, r]`` for every kind, module names are normalised, ``extras`` has the carried tensors under PEFT's canonical
    keys. Raises RefusedInputError as :func:`adapterbank.peft_format.check.inspect` does, but does not look at values.
    """
    settings = config_file.parse(config)
    header = header_file.parse(weights)
    inventory, problems = inventory_of.take(settings, header)
    if inventory is None:
        raise refusal(problems)
    buffer = bytearray(weights) if memoryview(weights).readonly else weights
    modules: dict[str, Factors] = {}
    for pair in inventory.pairs:
        A, B = _tensor(buffer, header.tensors[pair.key_A]), _tensor(buffer, header.tensors[pair.key_B])
        modules.update(_factors(pair, A, B))
    extras = {name: _tensor(buffer, header.tensors[key]) for name, key in inventory.carried.items()}
    return Adapter(modules, settings.base_model, extras)


def _tensor(buffer: Any, info: TensorInfo) -> Tensor:
    dtype = DTYPES[info.dtype]
    if info.begin % dtype.itemsize:  # a header of odd length; torch wants its items aligned
        buffer, begin = bytearray(buffer[info.begin : info.end]), 0
    else:
        begin = info.begin
    return torch.frombuffer(buffer, dtype=dtype, count=(info.end - info.begin) // dtype.itemsize, offset=begin).view(info.shape)


def _factors(pair: Pair, A: Tensor, B: Tensor) -> dict[str, Factors]:
    """The factors of one pair: one module, or one for each expert (B's columns ``e, e + E, e + 2E …`` are expert e's)."""
    if not pair.experts:
        flat = A.view(pair.rank, pair.d_in), B.view(pair.d_out, pair.rank)
        return {pair.module: Factors(*flat, pair.scaling, pair.kind, pair.kernel)}
    stacked = A.view(pair.experts, pair.rank, pair.d_in)
    strided = B.view(pair.d_out, pair.rank, pair.experts)
    return {shape.name: Factors(stacked[e], strided[:, :, e], pair.scaling, pair.kind) for e, shape in enumerate(pair.shapes())}
