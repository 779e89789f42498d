"""Small seeded collections."""

from __future__ import annotations

import torch

from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.baselines.collection import Collection

SHAPES = {"a": (24, 20), "b": (20, 36)}


def adapter(seed: int, rank: int = 4, decay: float = 0.6) -> Adapter:
    """Gaussian factors with singular values that fall geometrically, scaling 2."""
    draw = torch.Generator().manual_seed(seed)
    modules = {}
    for name, (d_out, d_in) in SHAPES.items():
        weights = decay ** torch.arange(rank)
        A, B = torch.randn(rank, d_in, generator=draw), torch.randn(d_out, rank, generator=draw) * weights
        modules[name] = Factors(A / d_in**0.5, B / d_out**0.5, 2.0)
    return Adapter(modules)


def collection(count: int = 3, rank: int = 4) -> Collection:
    """Unrelated adapters."""
    return Collection.of({f"n{i}": adapter(i, rank) for i in range(count)})
