"""Adapters with more than factors: what a directory of ``tests.adapters`` becomes with DoRA, heads, biases or tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PREFIX = "base_model.model."


def beside(folder: Path, tensors: dict[str, Tensor], **config: Any) -> Path:
    """``folder`` with these tensors beside its factors, and fields of the configuration set."""
    weights, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    save_file({**load_file(weights), **tensors}, weights, metadata={"format": "pt"})
    settings.write_text(json.dumps(json.loads(settings.read_text()) | config))
    return folder


def with_dora(folder: Path) -> Path:
    factors = load_file(folder / "adapter_model.safetensors")
    sizes = {key.replace("lora_B.weight", "lora_magnitude_vector"): len(B) for key, B in factors.items() if "lora_B" in key}
    return beside(folder, {key: torch.ones(size) for key, size in sizes.items()}, use_dora=True)


def with_extras(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """A saved head, a bias of the base model and rows for new tokens."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        f"{PREFIX}classifier.weight": torch.randn(5, 16, generator=draw).to(dtype),
        f"{PREFIX}classifier.bias": torch.randn(5, generator=draw).to(dtype),
        f"{PREFIX}encoder.layer.0.output.dense.bias": torch.randn(12, generator=draw),
        f"{PREFIX}embeddings.words.token_adapter.trainable_tokens_delta": torch.randn(2, 16, generator=draw).to(torch.bfloat16),
    }
    return beside(
        folder, tensors, modules_to_save=["classifier"], bias="all", trainable_token_indices={"embeddings.words": [1, 9]}
    )
