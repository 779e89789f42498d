"""Slow and obvious references in float64, from the files alone: numpy, torch and safetensors, nothing of the package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

Deltas = Mapping[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]


def factors(directory: Path) -> dict[str, Pair]:
    """``(s·B [d_out, r], A [r, d_in])`` by module; patterns are full module names."""
    config = json.loads((directory / "adapter_config.json").read_text())
    loaded = load_file(directory / "adapter_model.safetensors")  # numpy has no bfloat16
    tensors = {key: tensor.double().numpy() for key, tensor in loaded.items()}
    found = {}
    for key in tensors:
        if not key.endswith(".lora_A.weight"):
            continue
        stem = key.removesuffix(".lora_A.weight")
        name = stem.removeprefix("base_model.model.")
        A, B = tensors[key], tensors[f"{stem}.lora_B.weight"]
        alpha = config["alpha_pattern"].get(name, config["lora_alpha"])
        found[name] = (alpha / (len(A) ** 0.5 if config["use_rslora"] else len(A)) * B, A)
    return found


def deltas(directory: Path) -> dict[str, np.ndarray]:
    return {name: B @ A for name, (B, A) in factors(directory).items()}


def distance(found: Deltas, wanted: Deltas) -> float:
    """(Σ‖found − wanted‖² / Σ‖wanted‖²)^½ over all modules of both; one that is missing counts as zeros."""
    names = {*found, *wanted}
    top = sum(np.square(found.get(name, 0.0) - wanted.get(name, 0.0)).sum() for name in names)
    return float(np.sqrt(top / sum(np.square(value).sum() for value in wanted.values())))


def reversible(adapters: Sequence[Mapping[str, Pair]], p: int) -> list[dict[str, np.ndarray]]:
    """ΔŴ of each adapter by arXiv 2510.14163, §5, one position after another; only who holds a module enters it."""
    found: list[dict[str, np.ndarray]] = [{} for _ in adapters]
    places = {(name, len(A)) for adapter in adapters for name, (_, A) in adapter.items()}
    for name, rank in sorted(places):
        holders = [i for i, a in enumerate(adapters) if name in a and len(a[name][1]) == rank]
        B = _positions([adapters[i][name][0] for i in holders], p)
        A = _positions([adapters[i][name][1].T for i in holders], p)
        for i, left, right in zip(holders, B, A, strict=True):
            found[i][name] = left @ right.T
    return found


def _positions(rows: Sequence[np.ndarray], p: int) -> list[np.ndarray]:
    out = [np.empty_like(each) for each in rows]
    for j in range(len(rows[0])):
        X = np.stack([each[j] for each in rows], axis=1)  # [r, n]
        mean = X.mean(axis=1, keepdims=True)
        U, S, _ = np.linalg.svd(X - mean, full_matrices=False)
        b = U[:, :p] * (S[:p] > 1e-12 * np.abs(X).max())
        back = mean + b @ (b.T @ (X - mean))
        for i, each in enumerate(out):
            each[j] = back[:, i]
    return out
