"""Small adapters for the coder: seeded, Gaussian factors with a falling spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

import torch

from adapterbank.lora.adapter import Adapter, Factors

Size = tuple[int, int, int]  # d_out, d_in, rank
SIZES: Mapping[str, Size] = {
    "layer.0.query": (48, 40, 6),
    "layer.0.value": (48, 40, 4),
    "layer.0.output": (40, 70, 6),
    "layer.1.output": (33, 31, 1),
}
MIDDLE: Mapping[str, Size] = {f"layer.{i}": (192, 160, 8) for i in range(3)}


def factors(d_out: int, d_in: int, rank: int, seed: int, fall: float = 0.5) -> Factors:
    """Random factors whose k-th component is about e^(−fall·k) in size."""
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(d_out, rank, generator=generator) * torch.exp(-fall * torch.arange(rank))
    return Factors(torch.randn(rank, d_in, generator=generator) / d_in**0.5, B)


def adapter(sizes: Mapping[str, Size] = SIZES, seed: int = 0, fall: float = 0.5) -> Adapter:
    modules = {name: factors(*size, seed * 100 + i, fall) for i, (name, size) in enumerate(sizes.items())}
    return Adapter(modules, "tiny/encoder")


def child(parent: Adapter, size: float, seed: int, rank: int = 4) -> Adapter:
    """``parent`` plus a step of ``rank`` components whose norm is ``size`` times that of ΔW, module by module."""
    modules = {}
    for i, (name, own) in enumerate(parent.modules.items()):
        step = factors(own.d_out, own.d_in, rank, 7000 + seed * 100 + i, 0.3)
        share = size * float((own.B @ own.A).norm() / (step.B @ step.A).norm())
        modules[name] = Factors(torch.cat([own.A, step.A]), torch.cat([own.B, step.B * share], dim=1))
    return Adapter(modules, parent.base_model)


def family(count: int, sizes: Mapping[str, Size] = MIDDLE, moved: float = 0.25) -> list[Adapter]:
    """Adapters that began with one lora_A and moved off it by ``moved`` of its size; their lora_B are unrelated."""
    start = adapter(sizes, seed=50)
    members = []
    for seed in range(count):
        own, drift = adapter(sizes, seed=60 + seed, fall=0.2), adapter(sizes, seed=80 + seed)
        modules = {n: replace(f, A=start.modules[n].A + moved * drift.modules[n].A) for n, f in own.modules.items()}
        members.append(Adapter(modules, start.base_model))
    return members


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def same(first: Adapter, second: Adapter) -> bool:
    """Bit by bit."""
    return list(first.modules) == list(second.modules) and all(
        (f.A.shape, f.B.shape, f.scaling, f.kind, f.kernel) == (g.A.shape, g.B.shape, g.scaling, g.kind, g.kernel)
        and f.A.numpy().tobytes() == g.A.numpy().tobytes()
        and f.B.contiguous().numpy().tobytes() == g.B.contiguous().numpy().tobytes()
        for f, g in zip(first.modules.values(), second.modules.values(), strict=True)
    )
