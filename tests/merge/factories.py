"""Small synthetic adapters, scaled by 1/√fan-in so that a relative tolerance means something."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta
from adapterbank.merge import Merged, merge
from adapterbank.merge.conditions import Conditions
from tests.merge.artefacts import ARTEFACTS

DIMS = {"blocks.0.q": (12, 9), "blocks.0.up": (20, 9), "blocks.1.down": (9, 20)}


def factors(seed: int, d_out: int, d_in: int, rank: int, scaling: float = 1.0, dtype: torch.dtype = torch.float64) -> Factors:
    draw = torch.Generator().manual_seed(seed)
    B = torch.randn(d_out, rank, generator=draw, dtype=torch.float64) / rank**0.5
    A = torch.randn(rank, d_in, generator=draw, dtype=torch.float64) / d_in**0.5
    return Factors(A=A.to(dtype), B=B.to(dtype), scaling=scaling)


def adapter(
    seed: int, rank: int = 3, scaling: float = 1.0, *, skip: Sequence[str] = (), ranks: Mapping[str, int] | None = None
) -> Adapter:
    """An adapter on DIMS; ``ranks`` overrides the rank of single modules, ``skip`` leaves modules out."""
    return Adapter(
        {
            name: factors(1000 * seed + place, *dims, (ranks or {}).get(name, rank), scaling)
            for place, (name, dims) in enumerate(DIMS.items())
            if name not in skip
        }
    )


def regauged(original: Adapter, seed: int) -> Adapter:
    """The same deltas from other factors: ``B·G`` and ``G⁻¹·A`` with a well-conditioned random G per module."""
    draw = torch.Generator().manual_seed(seed)
    modules = {}
    for name, f in original.modules.items():
        G = torch.eye(f.rank, dtype=torch.float64) * 2 + torch.rand(f.rank, f.rank, generator=draw, dtype=torch.float64)
        modules[name] = Factors(A=torch.linalg.solve(G, f.A), B=f.B @ G, scaling=f.scaling)
    return Adapter(modules)


def digests(count: int) -> list[str]:
    return [f"{place:064x}" for place in range(1, count + 1)]


def run(method: str, adapters: Sequence[Adapter], weights: Sequence[float] | None = None, **settings) -> Merged:
    """A merge in float64, so that only the method is compared; made-up artefacts if it needs some and none are given."""
    weights = [1.0] * len(adapters) if weights is None else weights
    settings = {"names": digests(len(adapters)), "dtype": torch.float64, "conditions": Conditions(), **settings}
    if method in ARTEFACTS and not settings["conditions"].artefacts:
        shapes = {s.name: (s.d_out, s.d_in) for value in adapters for s in value.shapes}
        made = ARTEFACTS[method](settings["names"], shapes, settings.get("options") or {})
        settings["conditions"] = replace(settings["conditions"], artefacts=tuple(made))
    return merge(method, adapters, weights, **settings)


def deltas(value: Adapter) -> dict[str, np.ndarray]:
    return {name: delta(f).numpy() for name, f in value.modules.items()}


def distance(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    """(Σ‖first − second‖² / Σ‖second‖²)^½."""
    assert first.keys() == second.keys()
    norm = sum(float((value**2).sum()) for value in second.values())
    return (sum(float(((first[name] - second[name]) ** 2).sum()) for name in second) / norm) ** 0.5
