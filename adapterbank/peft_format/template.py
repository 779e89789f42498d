"""The configuration of a written directory: exact targets, scaling 1, and what a template says about the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.peft_format import names
from adapterbank.peft_format.config import CONFIG_BYTES, LoraConfig
from adapterbank.peft_format.experts import ORDER, container, parameters_of

# Fields of a template that describe the model or how the adapter acts; the others are neutralised.
_KEPT = (
    "base_model_name_or_path", "revision", "task_type", "auto_mapping", "fan_in_fan_out", "ensure_weight_tying",
    "layer_replication", "alora_invocation_tokens", "use_qalora", "qalora_group_size", "use_bdlora", "megatron_config",
    "megatron_core",
)  # fmt: skip
# Fields that PEFT believes only if their tensors are in the file, and the end of such a tensor's key.
_WITH_TENSORS = {
    "use_dora": ".lora_magnitude_vector",
    "lora_bias": ".lora_B.bias",
    "trainable_token_indices": ".trainable_tokens_delta",
    "velora_config": ".lora_velora_embed",
    "monteclora_config": ".lora_monteclora_sampler.",
}
# PEFT adds a head to modules_to_save for these tasks and fails if the file has none.
_TASKS_WITH_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
_ROOM_FOR_TARGETS = CONFIG_BYTES * 3 // 4


def fields_for(
    groups: Mapping[str, list[Factors]], extras: Collection[str], template: LoraConfig | None, base_model: str | None,
    naming: names.Naming,
) -> dict[str, Any]:  # fmt: skip
    """The fields of ``adapter_config.json`` for factors with scaling 1 and the tensors ``extras`` (canonical keys)."""
    old = {} if template is None else template.fields
    rank = max((members[0].rank for members in groups.values()), default=1)
    fields: dict[str, Any] = {
        "peft_type": "LORA", "inference_mode": True, "base_model_name_or_path": base_model, "task_type": None,
        "bias": "none", "fan_in_fan_out": False, "init_lora_weights": True, "lora_dropout": 0.0, "modules_to_save": None,
        "use_dora": False, "use_rslora": False, "r": rank, "lora_alpha": rank,
        **{name: old[name] for name in _KEPT if old.get(name) is not None},
        **{name: old[name] for name, part in _WITH_TENSORS.items() if old.get(name) and any(part in key for key in extras)},
    }  # fmt: skip
    if base_model is not None:
        fields["base_model_name_or_path"] = base_model
    owners = [names.unwrapped(key) for key in extras]
    saved = [name for name in old.get("modules_to_save") or [] if any(_owned(owner, name) for owner in owners)]
    fields["modules_to_save"] = saved or None
    if old.get("bias") in ("all", "lora_only") and any(key.endswith(".bias") for key in extras):
        fields["bias"] = old["bias"]
    if fields["task_type"] in _TASKS_WITH_HEADS and not saved:
        fields["task_type"] = None
    patterns, parameters = _ranks(groups, template, naming, rank)
    fields |= {"rank_pattern": patterns, "alpha_pattern": dict(patterns)}
    fields["target_modules"] = _targets(groups, naming) + (_packed(extras) if old.get("use_bdlora") else [])
    if parameters:
        fields["target_parameters"] = parameters
    return fields


def _owned(tensor: str, saved: str) -> bool:
    parts = tensor.split(".")
    return any(".".join(parts[:n]).endswith(saved) for n in range(1, len(parts)))


def _targets(groups: Mapping[str, list[Factors]], naming: names.Naming) -> list[str]:
    """Full module names, so that no other module is touched; their last parts if the list would be too long to read back."""
    own = [naming.backward(name) for name, members in groups.items() if members[0].kind != "expert"]
    full = sorted(name for name in own if ".base_layer" not in name)  # those are made by their parent's wrapper
    if sum(len(name) + 8 for name in full) <= _ROOM_FOR_TARGETS:
        return full
    return sorted({name.rpartition(".")[2] for name in full})


def _packed(extras: Collection[str]) -> list[str]:
    """Modules whose factors are among the extras."""
    return sorted({names.split(names.unwrapped(key))[0] for key in extras if key.endswith(".lora_A.weight")})


def _ranks(
    groups: Mapping[str, list[Factors]], template: LoraConfig | None, naming: names.Naming, rank: int
) -> tuple[dict[str, int], list[str]]:
    """Ranks that differ from ``rank`` under keys that match one module each, and the parameters of the experts."""
    patterns: dict[str, int] = {}
    parameters: set[str] = set()
    for name, members in groups.items():
        own = naming.backward(name)
        if members[0].kind == "expert":
            own = f"{container(own)}.{_parameter(name, groups, template)}"
            parameters.add(own)
        if members[0].rank != rank:
            patterns["^" + own.replace(".", r"\.")] = members[0].rank
    return patterns, sorted(parameters)


def _parameter(name: str, groups: Mapping[str, list[Factors]], template: LoraConfig | None) -> str:
    """The parameter that the stack ``name`` adapts, from the template or, for nested stacks, from their usual order."""
    home = container(name)
    nested = [stack for stack in groups if container(stack) == home and groups[stack][0].kind == "expert"]
    leaves = parameters_of(template, home) if template is not None else []
    if not leaves and len(nested) == len(ORDER):
        leaves = list(ORDER)
    if len(leaves) != len(nested):
        message = f"{home} has {len(nested)} stacks of experts, the configuration names {len(leaves)} parameters for them"
        raise UsageError(message, hint="pass the configuration of an original adapter as the template")
    # The innermost wrapper has the most base_layer parts in its name and belongs to the parameter defined first.
    return leaves[sorted(nested, key=len, reverse=True).index(name)]
