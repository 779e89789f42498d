"""Errors of many approximations of the same adapters: relative in ΔW, and on inputs that the modules really see.

With X the inputs of a module as columns, ‖(ΔW − ΔŴ)X‖²; X = 1 gives ΔW itself. Through Grams of the factors, in float64: the
difference of squares is exact to about 1e-7 of the norm, far below what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors

Inputs = Mapping[str, Tensor]  # inputs of every module, [count, d_in]


def error(original: Adapter, approximation: Adapter, inputs: Inputs | None = None) -> float:
    """(Σ‖(ΔW − ΔŴ)X‖² / Σ‖ΔW X‖²)^½ over the modules of ``original``; without ``inputs`` the relative ΔW error."""
    lost = norm = 0.0
    for name, factors in original.modules.items():
        seen = None if inputs is None else inputs[name]
        of_one = _squared(factors, None, seen)
        other = approximation.modules.get(name)
        norm += of_one
        lost += of_one if other is None or other.rank == 0 else _squared(factors, other, seen)
    return sqrt(max(lost, 0.0) / norm)


def errors(originals: Sequence[Adapter], found: Sequence[Adapter], inputs: Inputs | None = None) -> list[float]:
    """:func:`error` of each pair."""
    return [error(a, b, inputs) for a, b in zip(originals, found, strict=True)]


def _squared(first: Factors, second: Factors | None, inputs: Tensor | None) -> float:
    left, right = first.B.double() * first.scaling, first.A.double()
    if second is not None:
        left = torch.cat([left, second.B.double() * -second.scaling], dim=1)
        right = torch.cat([right, second.A.double()])
    seen = right if inputs is None else right @ inputs.double().T
    return float(((left.T @ left) * (seen @ seen.T)).sum())
