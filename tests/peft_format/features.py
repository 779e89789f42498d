"""A fixture for every row of the table of cases: the smallest directory that shows the feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.peft_format.build import PREFIX, Q, V, config, llama, pair, weights

Files = dict[str, bytes]

_RNG = np.random.default_rng(7)


def directory(tensors: Mapping[str, np.ndarray] | None = None, **fields: Any) -> Files:
    return {
        "adapter_config.json": config(**fields),
        "adapter_model.safetensors": weights(llama() if tensors is None else tensors),
    }


def noise(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def beside(suffix: str, *shape: int, module: str = "", **fields: Any) -> Files:
    """The plain adapter with one tensor more (for both modules if ``module`` is empty)."""
    owners = [module] if module else [Q, V]
    return directory({**llama(), **{f"{PREFIX}{owner}{suffix}": noise(*shape) for owner in owners}}, **fields)


def convolution(groups: int = 1, window: tuple[int, ...] = (3, 3)) -> Files:
    name, ones = f"{PREFIX}conv", (1,) * len(window)
    tensors = {f"{name}.lora_A.weight": noise(4, 3, *window), f"{name}.lora_B.weight": noise(8, 4 // groups, *ones)}
    return directory(tensors, target_modules=["conv"])


EMBEDDING = {f"{PREFIX}embed_tokens.lora_embedding_A": noise(4, 32), f"{PREFIX}embed_tokens.lora_embedding_B": noise(8, 4)}
EXPERTS = {
    f"{PREFIX}model.layers.0.mlp.experts.base_layer.lora_A.weight": noise(12, 8),
    f"{PREFIX}model.layers.0.mlp.experts.base_layer.lora_B.weight": noise(10, 12),
    f"{PREFIX}model.layers.0.mlp.experts.lora_A.weight": noise(12, 5),
    f"{PREFIX}model.layers.0.mlp.experts.lora_B.weight": noise(8, 12),
}
_PACKED = {f"{PREFIX}{Q}.lora_A.weight": noise(4, 6), f"{PREFIX}{Q}.lora_B.weight": noise(6, 2)}

FEATURES: dict[str, Callable[[], Files]] = {
    "rank_pattern": lambda: directory({**pair(Q, 2), **pair(V)}, rank_pattern={"q_proj": 2}),
    "alpha_pattern": lambda: directory(alpha_pattern={"q_proj": 2}),
    "rslora": lambda: directory(use_rslora=True),
    "fan_in_fan_out": lambda: directory(fan_in_fan_out=True),
    "embedding": lambda: directory(EMBEDDING),
    "conv": convolution,
    "target_regex": lambda: directory(target_modules=r"(.*)*[qv]_proj"),
    "target_parameters": lambda: directory(EXPERTS, target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    "tied_embeddings": lambda: directory({**EMBEDDING, **pair("lm_head")}, ensure_weight_tying=True),
    "kept_start": lambda: directory(init_lora_weights="orthogonal"),
    "wrapped_names": lambda: directory(llama(prefix="base_model.model._orig_mod.")),
    "velora": lambda: beside(".lora_velora_embed", 3, velora_config={"num_groups": 2}),
    "dora": lambda: beside(".lora_magnitude_vector", 5, use_dora=True),
    "lora_bias": lambda: beside(".lora_B.bias", 5, lora_bias=True),
    "modules_to_save": lambda: beside(".dense.weight", 3, 6, module="score", modules_to_save=["score"]),
    "bias": lambda: beside(".base_layer.bias", 5, bias="lora_only"),
    "trainable_token_indices": lambda: beside(
        ".token_adapter.trainable_tokens_delta", 2, 8, module="model.embed_tokens", trainable_token_indices=[1, 9]
    ),
    "saved_embeddings": lambda: beside(".weight", 40, 8, module="model.embed_tokens"),
    "layer_replication": lambda: directory(layer_replication=[[0, 2], [1, 3]]),
    "alora": lambda: directory(alora_invocation_tokens=[5, 6, 7]),
    "qalora": lambda: directory(use_qalora=True, qalora_group_size=2),
    "bdlora": lambda: directory(
        {**_PACKED, **pair(V)}, use_bdlora={"target_modules_bd_b": ["q_proj"], "nblocks": 2, "match_strict": False}
    ),
    "monteclora": lambda: beside(".lora_monteclora_sampler.gaussian_mean", 3, monteclora_config={"num_samples": 2}),
    "megatron": lambda: directory(megatron_config={"tensor_model_parallel_size": 2}),
    "raw_start": lambda: directory(init_lora_weights="pissa_niter_16"),
    "kasa": lambda: beside(".lora_diag", 4, kasa_config={}),
    "arrow": lambda: directory(arrow_config={"top_k": 2}),
    "peft_type": lambda: directory(peft_type="LOHA"),
    "conv_groups": lambda: convolution(groups=2),
    "too_many_dims": lambda: convolution(window=(3, 3, 3)),
    "adapter_name_in_key": lambda: directory({k.replace(".weight", ".default.weight"): v for k, v in llama().items()}),
    "kohya": lambda: directory({"lora_unet_down_blocks_0_attn_to_q.lora_down.weight": noise(4, 6)}),
    "diffusers": lambda: directory({"unet.down_blocks.0.attn.to_q.lora.down.weight": noise(4, 6)}),
    "pickle": lambda: {"adapter_config.json": config(), "adapter_model.bin": b"\x80\x04."},
    "gguf": lambda: {"adapter.gguf": b"GGUF"},
    "full_model": lambda: {"config.json": b"{}", "model.safetensors": weights({"model.norm.weight": noise(8)})},
    "nested": lambda: {f"default/{name}": data for name, data in directory().items()},
    "sharded": lambda: {"adapter_config.json": config(), "adapter_model-00001-of-00002.safetensors": b""},
}
