"""An adapter of a resident bank in PEFT's own words: its tensors under PEFT's keys, and a configuration that fits them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterbank.lora.adapter import Factors
from adapterbank.serving.lora_layers import PREFIX
from adapterbank.serving.slots import SlotLayout

_KEPT = ("base_model_name_or_path", "revision", "task_type", "fan_in_fan_out")


def state_dict(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The tensors under the keys of ``set_peft_model_state_dict``."""
    found = {}
    for name, each in factors.items():
        parts = ("lora_embedding_A", "lora_embedding_B") if each.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
        found[f"{PREFIX}{name}.{parts[0]}"] = each.A.contiguous()
        found[f"{PREFIX}{name}.{parts[1]}"] = each.B.contiguous()
    return found


def lora_config(layout: SlotLayout, registered: bytes) -> Any:
    """The ``peft.LoraConfig`` of what a buffer of ``layout`` holds: α = r, so that each adapter can be swapped for each; what
    says where it belongs is taken from the ``registered`` configuration."""
    from peft import LoraConfig

    ranks = {place.whole.name: place.whole.rank for place in layout}
    largest = max(ranks.values(), default=1)
    others = {"^" + name.replace(".", r"\."): rank for name, rank in ranks.items() if rank != largest}
    given = json.loads(registered)
    return LoraConfig(
        r=largest, lora_alpha=largest, target_modules=sorted(ranks), rank_pattern=others, alpha_pattern=dict(others),
        lora_dropout=0.0, use_rslora=False, init_lora_weights=False, inference_mode=True,
        **{name: given[name] for name in _KEPT if given.get(name) is not None},
    )  # fmt: skip
