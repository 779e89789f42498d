"""The fields of PEFT's LoRA configuration (0.21): what each may hold, its default, and which are mere bookkeeping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

RANK_LIMIT = 65_536
ALPHA_LIMIT = 1e6

# Written by PEFT for its own use: they change neither what an adapter computes nor how it is trained further.
BOOKKEEPING = frozenset(
    {
        "peft_version", "inference_mode", "auto_mapping", "revision", "base_model_name_or_path", "task_type",
        "runtime_config", "megatron_core",
    }
)  # fmt: skip

# Lists whose order PEFT does not keep (it writes sets).
UNORDERED = frozenset({"target_modules", "exclude_modules", "modules_to_save", "target_parameters"})

DEFAULTS: Mapping[str, Any] = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "fan_in_fan_out": False, "bias": "none",
    "use_rslora": False, "init_lora_weights": True, "target_modules": None, "exclude_modules": None, "modules_to_save": None,
    "layers_to_transform": None, "layers_pattern": None, "rank_pattern": {}, "alpha_pattern": {}, "megatron_config": None,
    "trainable_token_indices": None, "loftq_config": {}, "eva_config": None, "corda_config": None, "lora_ga_config": None,
    "use_dora": False, "velora_config": None, "kasa_config": None, "alora_invocation_tokens": None, "use_qalora": False,
    "qalora_group_size": 16, "monteclora_config": None, "layer_replication": None, "lora_bias": False,
    "target_parameters": None, "use_bdlora": None, "arrow_config": None, "ensure_weight_tying": False,
}  # fmt: skip


def _integer(value: Any) -> bool:
    return type(value) is int


def _boolean(value: Any) -> bool:
    return type(value) is bool


def _alpha(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value) and abs(value) <= ALPHA_LIMIT


def _rank(value: Any) -> bool:
    return _integer(value) and 1 <= value <= RANK_LIMIT


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _token_lists(value: Any) -> bool:
    lists = list(value.values()) if isinstance(value, dict) else [value]
    return all(isinstance(items, list) and all(map(_integer, items)) for items in lists)


def _pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 and all(map(_integer, p)) for p in value)


# What a field must be when it is there and not null, in words and as a test.
RULES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "r": (f"an integer from 1 to {RANK_LIMIT}", _rank),
    "lora_alpha": (f"a finite number up to {ALPHA_LIMIT:g} in size", _alpha),
    "lora_dropout": ("a number from 0 to 1", lambda v: _alpha(v) and 0 <= v <= 1),
    "use_rslora": ("true or false", _boolean),
    "use_dora": ("true or false", _boolean),
    "use_qalora": ("true or false", _boolean),
    "lora_bias": ("true or false", _boolean),
    "fan_in_fan_out": ("true or false", _boolean),
    "ensure_weight_tying": ("true or false", _boolean),
    "bias": ("none, all or lora_only", lambda v: v in ("none", "all", "lora_only")),
    "init_lora_weights": ("true, false or a name", lambda v: _boolean(v) or isinstance(v, str)),
    "target_modules": ("a list of names or one expression", lambda v: isinstance(v, str) or _names(v)),
    "exclude_modules": ("a list of names or one expression", lambda v: isinstance(v, str) or _names(v)),
    "modules_to_save": ("a list of names", _names),
    "target_parameters": ("a list of names", _names),
    "rank_pattern": ("an object of ranks", lambda v: _object(v) and all(map(_rank, v.values()))),
    "alpha_pattern": ("an object of alphas", lambda v: _object(v) and all(map(_alpha, v.values()))),
    "base_model_name_or_path": ("a text", lambda v: isinstance(v, str)),
    "trainable_token_indices": ("a list of token ids, or such lists by module", _token_lists),
    "alora_invocation_tokens": ("a list of token ids", lambda v: isinstance(v, list) and all(map(_integer, v))),
    "layer_replication": ("a list of pairs of layers", _pairs),
    "qalora_group_size": ("a positive integer", lambda v: _integer(v) and v > 0),
    **{name: ("an object", _object) for name in DEFAULTS if name.endswith("_config") or name == "use_bdlora"},
}
