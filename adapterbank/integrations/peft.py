"""Adapters of a resident bank in PEFT's own words: state dicts, a configuration that fits all, hot swapping.

A model whose parameters are views into the bank's buffers is switched faster: ``Resident.attach`` (``serving/attached.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterbank.serving.attached import PREFIX, Attached

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident

__all__ = ["Attached", "attach", "hotswap", "lora_config", "state_dict"]


def attach(resident: Resident, model: nn.Module, *, slots: int = 1, adapter_name: str = "default") -> Attached:
    """Make the LoRA parameters of ``model`` views into ``slots`` buffers of ``resident``; see :class:`Attached`."""
    return resident.attach(model, slots=slots, adapter_name=adapter_name)


def state_dict(resident: Resident, ref: str) -> dict[str, Tensor]:
    """The tensors of ``ref`` under PEFT's keys, of the buffer's rank and scaling 1, for ``set_peft_model_state_dict``."""
    found = {}
    for name, factors in resident.factors(ref).items():
        parts = ("lora_embedding_A", "lora_embedding_B") if factors.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
        found[f"{PREFIX}{name}.{parts[0]}"] = factors.A.contiguous()
        found[f"{PREFIX}{name}.{parts[1]}"] = factors.B.contiguous()
    return found


def lora_config(resident: Resident) -> Any:
    """The ``peft.LoraConfig`` of every adapter that ``resident`` gives: α = r, so that each can be swapped for each."""
    from peft import LoraConfig

    ranks = {place.whole.name: place.whole.rank for place in resident.layout}
    largest = max(ranks.values(), default=1)
    others = {"^" + name.replace(".", r"\."): rank for name, rank in ranks.items() if rank != largest}
    return LoraConfig(
        r=largest, lora_alpha=largest, target_modules=sorted(ranks), rank_pattern=others, alpha_pattern=dict(others),
        lora_dropout=0.0, use_rslora=False, init_lora_weights=False, inference_mode=True,
    )  # fmt: skip


def hotswap(resident: Resident, model: nn.Module, ref: str, *, adapter_name: str = "default") -> None:
    """Copy ``ref`` over the loaded adapter of a PEFT model by PEFT's own ``hotswap_adapter_from_state_dict``.

    For models that are not attached. Raises what PEFT raises for keys that the loaded adapter lacks.
    """
    from peft.utils.hotswap import hotswap_adapter_from_state_dict

    named = {_named(key, adapter_name): tensor for key, tensor in state_dict(resident, ref).items()}
    hotswap_adapter_from_state_dict(model, named, adapter_name, lora_config(resident))


def _named(key: str, adapter_name: str) -> str:
    """The key as a loaded model has it, with the adapter's name in it."""
    stem, part = key.rsplit(".lora_", 1)
    kind, _, rest = part.partition(".")
    return f"{stem}.lora_{kind}.{adapter_name}" + (f".{rest}" if rest else "")
