"""A PEFT model whose LoRA parameters are views into buffers of a resident bank: switching adapters is one launch.

Every parameter keeps its address, so a compiled model and captured CUDA graphs go on working. Scalings are folded into B by the
bank, the model's own are set to 1; modules that an adapter lacks are exact zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.serving import lora_layers
from adapterbank.serving.device import event
from adapterbank.serving.slots import SlotLayout
from adapterbank.serving.source import Key
from adapterbank.serving.turns import Turns

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident


@dataclass(slots=True, eq=False)
class Slot:
    """One buffer and the model that looks into it; ``holds`` is the mark of what was written, None for zeros."""

    model: nn.Module
    buffer: Tensor
    holds: tuple[int, str] | None = None
    owner: int | None = None
    times: int = 0
    done: Any = field(default=None, repr=False)  # on a GPU, the event after the last forward that read the buffer


class Attached:
    """A model in ``slots`` copies that share all weights but LoRA's. Safe to share between threads.

    ``resident`` is the bank for the layout of this model: what it writes fits the model's buffers.
    """

    def __init__(self, resident: Resident, model: nn.Module, *, slots: int = 1, adapter_name: str = "default") -> None:
        """Raises UsageError for a model without LoRA layers or on another device, IncompatibleError for layers that do not fit
        the bank's adapters (a smaller rank, modules that the model lacks) or are more than B·A (DoRA, biases, merged).

        A model that is refused, and what was attached before, stay as they are.
        """
        if slots < 1:
            raise UsageError(f"slots: got {slots}, expected at least 1")
        found = lora_layers.layers(model, adapter_name)
        lora_layers.check_device(found, resident.device)
        layout = SlotLayout.of(lora_layers.shape(name, layer, adapter_name) for name, layer in found.items())
        self.resident = resident.laid_out(layout)
        models = [model, *(lora_layers.copied(model, found, adapter_name) for _ in range(slots - 1))]
        made = [Slot(each, self.resident.buffer()) for each in models]
        self._merged: list[list[str]] = []  # of every layer, which PEFT fills in place
        for slot in made:
            own = lora_layers.layers(slot.model, adapter_name)
            lora_layers.look_into(layout.views(slot.buffer), own, adapter_name)
            self._merged += [layer.merged_adapters for layer in own.values()]
            self._mark_done(slot)
        self._turns = Turns(made)

    @property
    def model(self) -> nn.Module:
        """The model that was attached: the one of the first slot."""
        return self._turns.slots[0].model

    @property
    def version(self) -> str | None:
        """What the first slot holds."""
        holds = self._turns.slots[0].holds
        return None if holds is None else holds[1]

    def activate(self, ref: str) -> None:
        """Write ``ref`` into the first slot, on the caller's current stream, once nobody is using it.

        For one thread that drives the model; several use :meth:`using`. Raises NotFoundError, IncompatibleError for a model
        that was merged since, UsageError inside of a block of :meth:`using` that has the slot with another adapter.
        """
        key = self.resident.key(ref)
        with self._taken(self._turns.slots[:1], key) as slot:
            self._write(slot, key)

    @contextmanager
    def using(self, ref: str) -> Iterator[nn.Module]:
        """A model with ``ref`` active that nobody else switches or uses inside the block. Others wait until a slot is free,
        and get one in the order in which they came. Raises as :meth:`activate`."""
        key = self.resident.key(ref)
        with self._taken(self._turns.slots, key) as slot:
            if slot.holds != key.mark:
                self._write(slot, key)
            yield slot.model

    @contextmanager
    def _taken(self, among: tuple[Slot, ...], key: Key) -> Iterator[Slot]:
        slot = self._turns.take(among, key.mark)
        try:
            if any(self._merged):
                raise IncompatibleError(
                    "LoRA layers of the model are merged into their base: a switch would not reach the forward pass, and "
                    "unmerging would change the base weights",
                    hint="model.unmerge_adapter()",
                )
            if slot.done is not None:
                torch.cuda.current_stream(slot.buffer.device).wait_event(slot.done)
            try:
                yield slot
            finally:
                self._mark_done(slot)
        finally:
            self._turns.give_back(slot)

    def _write(self, slot: Slot, key: Key) -> None:
        slot.holds = None  # a write that fails leaves no adapter behind
        self.resident.write_key(key, slot.buffer)
        slot.holds = key.mark

    @staticmethod
    def _mark_done(slot: Slot) -> None:
        if slot.buffer.is_cuda:
            slot.done = event(slot.buffer.device)
