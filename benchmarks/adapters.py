"""Synthetic adapters as PEFT directories: seeded bfloat16 factors, written tensor by tensor, so that size costs no memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

BASE_MODEL = "synthetic/base"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def llama_8b(layers: int = 32) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) of every linear layer of an 8-billion-parameter Llama; 32 layers at rank 16 are 41.9 M parameters."""
    hidden, inner, kv = 4096, 14336, 1024
    linear = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in linear.items()}


def modules_of(size: int, rank: int = 16) -> dict[str, tuple[int, int]]:
    """Square modules that make a weights file of about ``size`` bytes: of 262 kB each, or one that is smaller."""
    parameters = size // 2
    count = max(1, round(parameters / (rank * 2 * 4096)))
    side = max(1, round(parameters / (rank * 2 * count)))
    return {f"model.layers.{i}.self_attn.q_proj": (side, side) for i in range(count)}


def write_adapter(folder: Path, modules: Mapping[str, tuple[int, int]], *, rank: int = 16, seed: int = 0) -> Path:
    """Write an adapter with factors near 1/√fan-in and return ``folder``; equal arguments give equal bytes."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(_config(modules, rank), indent=2), encoding="utf-8")
    rng = np.random.default_rng(seed)
    shapes = _shapes(modules, rank)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(_header(shapes))
        for shape in shapes.values():
            file.write(_bfloat16(rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(shape[1]))))
    return folder


def _shapes(modules: Mapping[str, tuple[int, int]], rank: int) -> dict[str, tuple[int, int]]:
    shapes = {}
    for name, (d_out, d_in) in sorted(modules.items()):
        shapes[f"base_model.model.{name}.lora_A.weight"] = (rank, d_in)
        shapes[f"base_model.model.{name}.lora_B.weight"] = (d_out, rank)
    return shapes


def _header(shapes: Mapping[str, tuple[int, int]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bfloat16(values: npt.NDArray[np.float32]) -> bytes:
    """The upper halves of the float32 patterns: rounded towards zero, which is as good for random numbers."""
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()


def _config(modules: Mapping[str, tuple[int, int]], rank: int) -> dict[str, object]:
    return {
        "base_model_name_or_path": BASE_MODEL,
        "bias": "none",
        "lora_alpha": 2 * rank,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
        "task_type": "CAUSAL_LM",
    }
