"""Adapters of a resident bank in PEFT's own words: state dicts, a configuration that fits all, hot swapping.

A model whose parameters are views into the bank's buffers is switched faster: ``Resident.attach`` (``serving/attached.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterbank.serving.attached import Attached

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident

__all__ = ["Attached", "attach", "hotswap", "lora_config", "state_dict"]


def attach(resident: Resident, model: nn.Module, *, slots: int = 1, adapter_name: str = "default") -> Attached:
    """Make the LoRA parameters of ``model`` views into ``slots`` buffers of ``resident``; see :class:`Attached`."""
    return resident.attach(model, slots=slots, adapter_name=adapter_name)


def state_dict(resident: Resident, ref: str) -> dict[str, Tensor]:
    """As :meth:`Resident.state_dict`."""
    return resident.state_dict(ref)


def lora_config(resident: Resident, ref: str) -> Any:
    """As :meth:`Resident.lora_config`."""
    return resident.lora_config(ref)


def hotswap(resident: Resident, model: nn.Module, ref: str, *, adapter_name: str = "default") -> None:
    """Copy ``ref`` over the loaded adapter of a PEFT model by PEFT's own ``hotswap_adapter_from_state_dict``.

    For models that are not attached. Raises what PEFT raises for keys that the loaded adapter lacks.
    """
    from peft.utils.hotswap import hotswap_adapter_from_state_dict

    named = {_named(key, adapter_name): tensor for key, tensor in resident.state_dict(ref).items()}
    hotswap_adapter_from_state_dict(model, named, adapter_name, resident.lora_config(ref))


def _named(key: str, adapter_name: str) -> str:
    """The key as a loaded model has it, with the adapter's name in it."""
    stem, part = key.rsplit(".lora_", 1)
    kind, _, rest = part.partition(".")
    return f"{stem}.lora_{kind}.{adapter_name}" + (f".{rest}" if rest else "")
