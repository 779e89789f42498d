"""ΔW without ever building it: norms and errors through the QR core, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors


def delta(factors: Factors) -> Tensor:
    """The dense ΔW = s·B·A ``[d_out, d_in]`` in float64."""
    return factors.scaling * (factors.B.double() @ factors.A.double())


def squared_norm(left: Tensor, right: Tensor) -> float:
    """‖left @ rightᵀ‖²_F for ``left [d_out, k]`` and ``right [d_in, k]``: the QR core, no difference of squares."""
    R_left = torch.linalg.qr(left.double(), mode="r").R
    R_right = torch.linalg.qr(right.double(), mode="r").R
    return float((R_left @ R_right.T).square().sum())


def delta_squared_norm(factors: Factors) -> float:
    """‖ΔW‖²_F."""
    return squared_norm(factors.B.double() * factors.scaling, factors.A.double().T)


def squared_distance(first: Factors, second: Factors) -> float:
    """‖ΔW₁ − ΔW₂‖²_F through the core of ``[s₁B₁ | −s₂B₂]`` and ``[A₁ᵀ | A₂ᵀ]``."""
    left = torch.cat([first.B.double() * first.scaling, second.B.double() * -second.scaling], dim=1)
    right = torch.cat([first.A.double().T, second.A.double().T], dim=1)
    return squared_norm(left, right)


@dataclass(frozen=True, slots=True)
class DeltaError:
    """Relative ΔW errors: ``total`` = (Σ‖ΔW_m − ΔŴ_m‖² / Σ‖ΔW_m‖²)^½ and the same quotient per module; 0/0 is 0."""

    total: float
    modules: Mapping[str, float]


def relative(error: float, norm: float) -> float:
    """(error / norm)^½ of two sums of squares, where 0/0 is 0 and x/0 is infinite."""
    if error == 0.0:
        return 0.0
    return sqrt(error / norm) if norm > 0.0 else float("inf")


def delta_error(original: Adapter, approximation: Adapter) -> DeltaError:
    """The error of ``approximation``; a module only one of the two has counts as exact zeros in the other."""
    errors: dict[str, float] = {}
    norms: dict[str, float] = {}
    for name in sorted({*original.modules, *approximation.modules}):
        first, second = original.modules.get(name), approximation.modules.get(name)
        norms[name] = delta_squared_norm(first) if first is not None else 0.0
        if first is not None and second is not None:
            errors[name] = squared_distance(first, second)
        else:
            errors[name] = norms[name] if second is None else delta_squared_norm(second)
    total = relative(sum(errors.values()), sum(norms.values()))
    return DeltaError(total, {name: relative(errors[name], norms[name]) for name in errors})
