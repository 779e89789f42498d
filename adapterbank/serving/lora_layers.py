"""The LoRA layers of a PEFT model: what shapes they have, and how their parameters become views into a buffer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.lora.layout import ModuleShape

PREFIX = "base_model.model."


def layers(model: nn.Module, adapter_name: str) -> dict[str, Any]:
    """The model's LoRA layers by the name that adapters have for them. Raises UsageError for a model without one."""
    from peft.tuners.lora import LoraLayer

    found = {
        name.removeprefix(PREFIX): layer
        for name, layer in (model.named_modules() if isinstance(model, nn.Module) else ())
        if isinstance(layer, LoraLayer) and (adapter_name in layer.lora_A or adapter_name in layer.lora_embedding_A)
    }
    if not found:
        raise UsageError(
            f"the model has no LoRA layer with an adapter {adapter_name!r}", hint="get_peft_model(model, config) first"
        )
    return found


def shape(name: str, layer: Any, adapter_name: str) -> ModuleShape:
    """Of one layer. Raises IncompatibleError for one whose update is more than B·A of two matrices."""
    reasons = {
        "is merged into its base": layer.merged,
        "uses DoRA": layer.use_dora.get(adapter_name, False) if hasattr(layer, "use_dora") else False,
        "has a LoRA bias": getattr(layer, "lora_bias", {}).get(adapter_name, False),
    }
    for reason, holds in reasons.items():
        if holds:
            raise IncompatibleError(f"LoRA layer {name!r} {reason}: only plain B·A can be switched")
    if adapter_name in layer.lora_embedding_A:
        A, B = layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name]
        return ModuleShape(name, B.shape[0], A.shape[1], A.shape[0], "embedding")
    A, B = layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight
    kernel = tuple(int(size) for size in A.shape[2:])
    return ModuleShape(name, B.shape[0], A[0].numel(), A.shape[0], "conv" if kernel else "linear", kernel)


def check_device(layers: Mapping[str, Any], device: torch.device) -> None:
    """UsageError unless all layers are on ``device``."""
    for name, layer in layers.items():
        place = next(iter(layer.base_layer.parameters())).device
        if place != device:
            raise UsageError(f"LoRA layer {name!r} is on {place}, the bank is resident on {device}")


def copied(model: nn.Module, layers: Mapping[str, Any], adapter_name: str) -> nn.Module:
    """The same modules once more: LoRA's parameters of their own, everything else shared."""
    own = {id(parameter) for layer in layers.values() for parameter in _parameters(layer, adapter_name)}
    shared: dict[int, Any] = {id(each): each for each in (*model.parameters(), *model.buffers()) if id(each) not in own}
    return copy.deepcopy(model, shared)


def _parameters(layer: Any, adapter_name: str) -> list[nn.Parameter]:
    if adapter_name in layer.lora_embedding_A:
        return [layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name]]
    return [layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight]


def look_into(views: Mapping[str, Factors], layers: Mapping[str, Any], adapter_name: str) -> None:
    """Replace the parameters by views, and scalings by 1."""
    for name, layer in layers.items():
        factors = views[name]
        A, B = (nn.Parameter(matrix, requires_grad=False) for matrix in (factors.A, factors.B))
        if adapter_name in layer.lora_embedding_A:
            layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name] = A, B
        else:
            old_A, old_B = layer.lora_A[adapter_name], layer.lora_B[adapter_name]
            old_A.weight = nn.Parameter(factors.A.view(old_A.weight.shape), requires_grad=False) if factors.kernel else A
            old_B.weight = nn.Parameter(factors.B.view(old_B.weight.shape), requires_grad=False) if factors.kernel else B
        if isinstance(layer.scaling[adapter_name], Tensor):
            layer.scaling[adapter_name].fill_(1.0)
        else:
            layer.scaling[adapter_name] = 1.0
