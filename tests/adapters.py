"""Small PEFT directories for tests, written without torch: seeded factors in a safetensors file of our own making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODULES = {
    "encoder.layer.0.attention.query": (16, 12),
    "encoder.layer.0.attention.value": (16, 12),
    "encoder.layer.0.output.dense": (12, 16),
}
_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_adapter(
    path: Path | str,
    modules: Mapping[str, tuple[int, int]] = MODULES,
    rank: int = 4,
    alpha: float = 8,
    seed: int = 0,
    dtype: str = "float32",
    base_model: str | None = "tiny/encoder",
    **config: Any,
) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` to ``path`` and return it.

    ``modules`` maps a module's name to ``(d_out, d_in)``; ``config`` overrides fields of the configuration. Factors are
    scaled by 1/√fan-in, so ΔW has entries near 1/√d_in; a rank in ``rank_pattern`` under a module's full name is used.
    """
    rng, tensors = np.random.default_rng(seed), {}
    for name, (d_out, d_in) in sorted(modules.items()):
        r = config.get("rank_pattern", {}).get(name, rank)
        tensors[f"base_model.model.{name}.lora_A.weight"] = rng.standard_normal((r, d_in)) / np.sqrt(d_in)
        tensors[f"base_model.model.{name}.lora_B.weight"] = rng.standard_normal((d_out, r)) / np.sqrt(r)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    fields = _config(modules, rank, alpha, base_model) | config
    (folder / "adapter_config.json").write_text(json.dumps(fields, indent=2))
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
    return folder


def safetensors_bytes(tensors: Mapping[str, np.ndarray], dtype: str = "float32") -> bytes:
    """A safetensors file with ``tensors`` in ``dtype``: float32, float16 or bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, at = [], 0
    for name, values in tensors.items():
        data = _encoded(values, dtype)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(values.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def _encoded(values: np.ndarray, dtype: str) -> bytes:
    if dtype != "bfloat16":
        return np.ascontiguousarray(values, dtype="<f4" if dtype == "float32" else "<f2").tobytes()
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4").astype(np.uint64)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    return (rounded >> 16).astype("<u2").tobytes()


def _config(modules: Mapping[str, Any], rank: int, alpha: float, base_model: str | None) -> dict[str, Any]:
    return {
        "alpha_pattern": {},
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
        "task_type": "FEATURE_EXTRACTION",
        "use_dora": False,
        "use_rslora": False,
    }
