"""Two subspaces that a stack of matrices shares: partial Tucker decomposition by higher-order orthogonal iteration."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

_SWEEPS = 1000
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Subspaces:
    """``U [p, r]`` and ``V [q, r]`` with orthonormal columns; ``captured`` is Σ‖UᵀC_iV‖² after every sweep."""

    U: Tensor
    V: Tensor
    captured: tuple[float, ...]


def shared_subspaces(matrices: Tensor, rank: int) -> Subspaces:
    """U and V that make Σ‖UᵀC_iV‖² large for ``matrices C [n, p, q]``, r = min(rank, p, q); HOOI finds a stationary point.

    Starts from the leading eigenvectors of ΣC_iC_iᵀ and ΣC_iᵀC_i. A sweep takes U as those of ΣC_iVVᵀC_iᵀ, then V as those of
    ΣC_iᵀUUᵀC_i; no sweep makes ``captured`` smaller. It ends when the relative error changes by less than 1e-6, not before the
    third sweep, and after 1000 at the latest (the settings of Compress-then-Merge).
    """
    rank = min(rank, *matrices.shape[1:])
    norm = float(matrices.square().sum())
    V = _leading(matrices.mT, rank)
    captured: list[float] = []
    errors: list[float] = []
    for sweep in range(_SWEEPS):
        U = _leading(matrices @ V, rank)
        V = _leading((U.T @ matrices).mT, rank)
        captured.append(float((U.T @ matrices @ V).square().sum()))
        errors.append(sqrt(max(0.0, norm - captured[-1]) / norm))
        if sweep > 1 and abs(errors[-1] - errors[-2]) < _TOLERANCE:
            break
    return Subspaces(U, V, tuple(captured))


def _leading(matrices: Tensor, rank: int) -> Tensor:
    """The ``rank`` leading eigenvectors ``[p, rank]`` of ΣM_iM_iᵀ, ``matrices M [n, p, m]``."""
    vectors: Tensor = torch.linalg.eigh((matrices @ matrices.mT).sum(dim=0)).eigenvectors
    return vectors[:, -rank:].flip(1)
