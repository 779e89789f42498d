"""Spherical interpolation of merges without building one: in coefficients, with angles from inner products of the deltas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter
from adapterbank.merge.gram import gram
from adapterbank.merge.inputs import Inputs

_FLAT = 1e-6  # sine of the angle below which the authors interpolate linearly


def inner_products(adapters: Sequence[Adapter]) -> Tensor:
    """⟨ΔW_i, ΔW_j⟩ in every module that any adapter has, ``[L, n, n]`` float64, in order of the modules' names."""
    names = [str(index) for index in range(len(adapters))]
    return torch.stack([gram(stack) for stack in Inputs.of(adapters, [1.0] * len(adapters), names, 0, ordered=True)])


def inner(first: Tensor, second: Tensor, products: Tensor) -> float:
    """⟨M(first), M(second)⟩ of the merges with the coefficients ``[n, L]``."""
    return float(torch.einsum("il,lij,jl->", first, products, second))


def slerp(first: Tensor, second: Tensor, at: Tensor, products: Tensor) -> Tensor:
    """The coefficients ``[n, L]`` of the spherical interpolation between two merges, module l at ``at[l]`` of [0, 1].

    M2N2's formula: sin((1−t)Ω)/sin Ω and sin(tΩ)/sin Ω with Ω the angle between the whole merges; linear if sin Ω ≤ 10⁻⁶,
    or if one of them is zero.
    """
    norms = (inner(first, first, products) * inner(second, second, products)) ** 0.5
    cosine = inner(first, second, products) / norms if norms > 0.0 else 1.0
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64).clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    if float(sine) <= _FLAT:
        return (1.0 - at) * first + at * second
    return (torch.sin((1.0 - at) * angle) * first + torch.sin(at * angle) * second) / sine
