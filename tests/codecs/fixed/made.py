"""Small adapters with falling spectra, as training leaves them; seeded."""

from __future__ import annotations

import torch

from adapterbank.lora.adapter import Adapter, Factors

SIZES = {
    "encoder.layer.0.attention.query": (48, 40, 6),
    "encoder.layer.0.attention.value": (48, 40, 4),
    "encoder.layer.0.output.dense": (40, 70, 6),
    "encoder.layer.1.output.dense": (33, 31, 1),
}


def factors(d_out: int, d_in: int, rank: int, seed: int, scaling: float = 1.0) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    fall = torch.exp(-0.5 * torch.arange(rank))
    B = torch.randn(d_out, rank, generator=generator) * fall
    return Factors(torch.randn(rank, d_in, generator=generator) / d_in**0.5, B, scaling)


def adapter(sizes: dict[str, tuple[int, int, int]] = SIZES, seed: int = 0, scaling: float = 1.0) -> Adapter:
    modules = {name: factors(*size, seed * 100 + i, scaling) for i, (name, size) in enumerate(sizes.items())}
    return Adapter(modules, "tiny/encoder")


def large(seed: int = 0) -> Adapter:
    """One on which tables and headers weigh little: four modules of 256 × 320 at rank 8."""
    return adapter({f"layers.{i}.dense": (256, 320, 8) for i in range(4)}, seed)


def same(first: Adapter, second: Adapter) -> bool:
    """Whether two adapters are equal bit for bit."""
    pairs = [(first.modules[n], second.modules.get(n)) for n in first.modules]
    equal = all(b is not None and _equal(a.A, b.A) and _equal(a.B, b.B) and a.kind == b.kind for a, b in pairs)
    return equal and first.modules.keys() == second.modules.keys() and first.extras.keys() == second.extras.keys()


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)
