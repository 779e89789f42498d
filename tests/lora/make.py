"""Small seeded adapters, scaled by 1/√fan-in, and the same adapters in other gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors

MODULES = {"block.0.q": (24, 18), "block.0.v": (12, 18), "block.1.out": (18, 30)}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_factors(seed: int, d_out: int, d_in: int, rank: int, scaling: float = 1.0) -> Factors:
    """Factors whose ΔW has well separated singular values (each at most 0.8 of the one before)."""
    U = torch.linalg.qr(normal(d_out, rank, seed=2 * seed)).Q
    V = torch.linalg.qr(normal(d_in, rank, seed=2 * seed + 1)).Q
    k = min(U.shape[1], V.shape[1])
    sizes = 0.75 ** torch.arange(k, dtype=torch.float64)
    G = random_gauge(rank, seed + 77, condition=3.0)[:k]  # some gauge, not a special one
    return Factors(A=torch.linalg.pinv(G) @ (V[:, :k] * sizes).T, B=U[:, :k] @ G, scaling=scaling)


def make_adapter(
    seed: int,
    rank: int = 4,
    scaling: float = 1.0,
    modules: Mapping[str, tuple[int, int]] = MODULES,
    *,
    skip: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
) -> Adapter:
    """One adapter on ``modules``, without those in ``skip``."""
    found = {}
    for place, (name, (d_out, d_in)) in enumerate(sorted(modules.items())):
        if name not in skip:
            f = make_factors(1000 * seed + place, d_out, d_in, rank, scaling)
            found[name] = Factors(f.A.to(dtype), f.B.to(dtype), scaling)
    return Adapter(found)


def random_gauge(rank: int, seed: int, condition: float = 10.0) -> Tensor:
    """An invertible matrix of the given condition number."""
    U, V = (torch.linalg.qr(normal(rank, rank, seed=seed + k)).Q for k in (0, 1))
    return U * torch.logspace(0, -torch.tensor(condition).log10().item(), rank, dtype=torch.float64) @ V


def regauged(adapter: Adapter, seed: int, condition: float = 10.0) -> Adapter:
    """The same ΔW from the factors B·G and G⁻¹·A, another G for each module."""
    modules = {}
    for place, (name, f) in enumerate(adapter.modules.items()):
        G = random_gauge(f.rank, seed + 10 * place, condition)
        modules[name] = Factors(torch.linalg.solve(G, f.A.double()), f.B.double() @ G, f.scaling)
    return Adapter(modules, adapter.base_model)
