"""A PEFT model whose LoRA parameters are views into buffers of a resident bank: switching adapters is one launch.

Every parameter keeps its address, so a compiled model and captured CUDA graphs go on working. Scalings are folded into B by the
bank, the model's own are set to 1; modules that an adapter lacks are exact zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.lora.layout import ModuleShape
from adapterbank.serving.slots import SlotLayout

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident

PREFIX = "base_model.model."


@dataclass(slots=True)
class Slot:
    """One buffer and the model that looks into it; ``version`` is what it holds, None for zeros."""

    model: nn.Module
    buffer: Tensor
    version: str | None = None
    busy: bool = False
    done: Any = field(default=None, repr=False)  # a CUDA event: the last forward that read the buffer


class Attached:
    """A model in ``slots`` copies that share all weights but LoRA's. Safe to share between threads."""

    def __init__(self, resident: Resident, model: nn.Module, *, slots: int = 1, adapter_name: str = "default") -> None:
        """Raises UsageError for a model without LoRA layers or on another device, IncompatibleError for layers that do not fit
        the bank's adapters (a smaller rank, modules that the model lacks) or are more than B·A (DoRA, biases, merged)."""
        if slots < 1:
            raise UsageError(f"slots: got {slots}, expected at least 1")
        self.resident, self._name = resident, adapter_name
        layers = _layers(model, adapter_name)
        resident.lay_out(SlotLayout.of(_shape(name, layer, adapter_name) for name, layer in layers.items()))
        _check_device(layers, adapter_name, resident.device)
        models = [model, *(_copied(model, layers, adapter_name) for _ in range(slots - 1))]
        self._slots = [Slot(each, resident.buffer()) for each in models]
        for slot in self._slots:
            _look_into(resident.layout.views(slot.buffer), _layers(slot.model, adapter_name), adapter_name)
        self._free = Condition()

    @property
    def model(self) -> nn.Module:
        """The model that was attached: the one of the first slot."""
        return self._slots[0].model

    @property
    def version(self) -> str | None:
        """What the first slot holds."""
        return self._slots[0].version

    def activate(self, ref: str) -> None:
        """Write ``ref`` into the first slot, on the caller's current stream, once nobody is using it.

        For one thread that drives the model; several use :meth:`using`. Raises NotFoundError.
        """
        slot = self._taken(self._slots[:1])
        try:
            self._write(slot, ref)
        finally:
            self._given_back(slot)

    @contextmanager
    def using(self, ref: str) -> Iterator[nn.Module]:
        """A model with ``ref`` active that nobody else switches or uses inside the block. Others wait until a slot is free."""
        version = self.resident.version(ref)
        slot = self._taken(self._slots, version)
        try:
            if slot.version != version:
                self._write(slot, version)
            yield slot.model
        finally:
            self._given_back(slot)

    def _taken(self, among: list[Slot], version: str | None = None) -> Slot:
        """A free slot of these, one that holds ``version`` already if there is one."""
        with self._free:
            while not (free := [slot for slot in among if not slot.busy]):
                self._free.wait()
            slot = next((slot for slot in free if slot.version == version), free[0])
            slot.busy = True
        if slot.done is not None:
            torch.cuda.current_stream(slot.buffer.device).wait_event(slot.done)
        return slot

    def _given_back(self, slot: Slot) -> None:
        if slot.buffer.is_cuda:
            slot.done = slot.done or torch.cuda.Event()  # type: ignore[no-untyped-call]
            slot.done.record(torch.cuda.current_stream(slot.buffer.device))
        with self._free:
            slot.busy = False
            self._free.notify()

    def _write(self, slot: Slot, ref: str) -> None:
        slot.version = None  # a write that fails leaves no adapter behind
        self.resident.write(ref, slot.buffer)
        slot.version = self.resident.version(ref)


def _layers(model: nn.Module, adapter_name: str) -> dict[str, Any]:
    """The model's LoRA layers by the name that adapters have for them."""
    from peft.tuners.lora import LoraLayer

    found = {
        name.removeprefix(PREFIX): layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer) and (adapter_name in layer.lora_A or adapter_name in layer.lora_embedding_A)
    }
    if not found:
        raise UsageError(
            f"the model has no LoRA layer with an adapter {adapter_name!r}", hint="get_peft_model(model, config) first"
        )
    return found


def _shape(name: str, layer: Any, adapter_name: str) -> ModuleShape:
    """Raises IncompatibleError for a layer whose update is more than B·A of two matrices."""
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


def _check_device(layers: Mapping[str, Any], adapter_name: str, device: torch.device) -> None:
    for name, layer in layers.items():
        place = next(iter(layer.base_layer.parameters())).device
        if place.type != device.type or (device.index is not None and place.index != device.index):
            raise UsageError(f"LoRA layer {name!r} is on {place}, the bank is resident on {device}")


def _copied(model: nn.Module, layers: Mapping[str, Any], adapter_name: str) -> nn.Module:
    """The same modules once more: LoRA's parameters of their own, everything else shared."""
    own = {id(parameter) for layer in layers.values() for parameter in _parameters(layer, adapter_name)}
    shared: dict[int, Any] = {id(each): each for each in (*model.parameters(), *model.buffers()) if id(each) not in own}
    return copy.deepcopy(model, shared)


def _parameters(layer: Any, adapter_name: str) -> list[nn.Parameter]:
    if adapter_name in layer.lora_embedding_A:
        return [layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name]]
    return [layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight]


def _look_into(views: Mapping[str, Factors], layers: Mapping[str, Any], adapter_name: str) -> None:
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
