"""vLoRA, the package ``vlora-dev`` itself: for each layer and side, a PCA over the flattened factors of the collection.

Stored as float16: mean and k components for each layer and side, k loadings for each adapter. Its ``reconstruct`` gives factors
without their scaling; the adapters here have it folded in.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.baselines.collection import HALF, Collection, Form, half

PIP_LINE = "pip install -e '.[bench]'"


def installed() -> bool:
    """Whether the package is there."""
    return find_spec("vlora") is not None


def vlora(collection: Collection, components: int) -> Form:
    """The collection on ``components`` shared components for every layer and side."""
    package: Any = import_module("vlora")
    weights = [_weights(package, adapter) for adapter in collection.given]
    space = package.SharedSubspace.from_adapters(weights, list(collection.names), num_components=components)
    stored = _halve(space)
    return Form(tuple(_adapter(space.reconstruct(name)) for name in collection.names), HALF * stored)


def _weights(package: Any, adapter: Adapter) -> Any:
    A = {name: factors.A.float() for name, factors in adapter.modules.items()}
    B = {name: factors.B.float() for name, factors in adapter.modules.items()}
    return package.LoRAWeights(layer_names=list(A), lora_a=A, lora_b=B, rank=adapter.rank)


def _halve(space: Any) -> int:
    """Round all that is stored to float16, in place, and count it."""
    stored = [space.components_a, space.components_b, space.means_a, space.means_b]
    stored += [loadings for task in space.tasks.values() for loadings in (task.loadings_a, task.loadings_b)]
    for tensors in stored:
        for name, tensor in tensors.items():
            tensors[name] = half(tensor).float()
    return sum(tensor.numel() for tensors in stored for tensor in tensors.values())


def _adapter(weights: Any) -> Adapter:
    return Adapter(
        {name: Factors(weights.lora_a[name].double(), weights.lora_b[name].double()) for name in weights.layer_names}
    )
