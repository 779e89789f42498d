"""Write factors as a PEFT directory that PEFT loads unchanged: scaling 1, exact targets, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapterbank.container import canonical_json
from adapterbank.lora.adapter import Adapter
from adapterbank.peft_format import config as config_file
from adapterbank.peft_format.directory import write_directory
from adapterbank.peft_format.factor_tensors import grouped, tensors
from adapterbank.peft_format.foreign import CONFIG, WEIGHTS
from adapterbank.peft_format.names import PEFT_PREFIX, naming_called
from adapterbank.peft_format.serialize import serialize
from adapterbank.peft_format.template import fields_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["MARKS", "encode", "write_directory"]

MARKS = "adapterbank.json"


def encode(
    adapter: Adapter,
    config: bytes | None = None,
    *,
    dtype: torch.dtype,
    marks: Mapping[str, Any] | None = None,
    naming: str = "current",
) -> dict[str, bytes]:
    """The files of the directory by name: ``adapter_config.json``, ``adapter_model.safetensors`` and, with ``marks``,
    ``adapterbank.json`` (PEFT ignores it, so marks survive loading).

    ``config`` is a template: its task, saved modules and the like are kept where their tensors are among the extras; rank,
    α, patterns, targets, dropout and initialisation are set from the factors. α = r, so what remains of a scaling is
    folded into B (and into the biases of ``lora_B``). ``naming`` (``Facts.naming``) writes module names as the original
    had them. Same input, same bytes. UsageError if ``dtype`` cannot hold a value or experts lack a template.
    """
    template = None if config is None else config_file.parse(config)
    names = naming_called(naming)
    groups = grouped(adapter.modules)
    extras = _extras(adapter)
    fields = fields_for(groups, extras, template, adapter.base_model, names)
    written = {PEFT_PREFIX + names.backward(key.removeprefix(PEFT_PREFIX)): tensor for key, tensor in extras.items()}
    files = {
        CONFIG: (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS: serialize(written | tensors(groups, names, dtype)),
    }
    if marks is not None:
        files[MARKS] = (canonical_json(marks) + "\n").encode()
    return files


def _extras(adapter: Adapter) -> dict[str, Tensor]:
    """The extras, with the scaling of a module folded into the bias of its ``lora_B``: PEFT scales both."""
    folded = {}
    for key, tensor in adapter.extras.items():
        module = key.removeprefix(PEFT_PREFIX).removesuffix(".lora_B.bias")
        factors = adapter.modules.get(module) if key.endswith(".lora_B.bias") else None
        scaled = factors is not None and factors.scaling != 1.0
        folded[key] = (tensor.double() * factors.scaling).to(tensor.dtype) if factors is not None and scaled else tensor
    return folded
