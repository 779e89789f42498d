"""Singular triplets above the noise, and the nearest orthonormal columns: what the spectral merges share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.merge.core import LowRank, svd

_EPS = torch.finfo(torch.float32).eps  # adapters are stored in float32 at most
_TILT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Triplets:
    """``Σ_k S[k]·U[:, k]·V[:, k]ᵀ``: ``U [d_out, k]``, ``S [k]`` descending where it comes from one matrix, ``V [d_in, k]``."""

    U: Tensor
    S: Tensor
    V: Tensor

    def __len__(self) -> int:
        return len(self.S)

    def first(self, count: int) -> Triplets:
        """The ``count`` leading ones, or all."""
        return Triplets(self.U[:, :count], self.S[:count], self.V[:, :count])


def triplets(matrix: LowRank, largest: float | None = None) -> Triplets:
    """The singular triplets of ``matrix`` above the rounding of float32 factors: S > K·ε₃₂·``largest``.

    ``largest`` is by default the largest singular value. A remainder after a projection is judged by that of the whole.
    Their number is the numerical rank.
    """
    U, S, V = svd(matrix)
    noise = matrix.left.shape[1] * _EPS * (float(S[0]) if largest is None else largest)
    return Triplets(U, S, V).first(int(S.gt(noise).sum()))


def side_by_side(parts: Sequence[Triplets]) -> Triplets:
    """All triplets of ``parts`` in one; orthonormal no longer."""
    return Triplets(
        torch.cat([part.U for part in parts], dim=1),
        torch.cat([part.S for part in parts]),
        torch.cat([part.V for part in parts], dim=1),
    )


def orthonormal(columns: Tensor) -> Tensor:
    """The nearest matrix to ``columns [d, k]`` with orthonormal columns: its polar factor.

    Where columns depend on each other the factor is not unique; then it is the partial isometry on their span, which
    involves no arbitrary direction: k equal unit columns come back as themselves divided by √k.
    """
    Q, R = torch.linalg.qr(columns)
    U, S, Vh = torch.linalg.svd(R, full_matrices=False)
    noise = len(S) * _EPS * float(S[0])
    kept = S.gt(noise)
    factor: Tensor = Q @ (U[:, kept] @ Vh[kept])
    return factor


def orthogonalised(parts: Triplets) -> LowRank:
    """``U⊥ diag(S) V⊥ᵀ`` with :func:`orthonormal` columns on both sides."""
    return LowRank(orthonormal(parts.U) * parts.S, orthonormal(parts.V))


def task_triplets(parts: Sequence[Triplets], size: int) -> list[Triplets]:
    """The leading ``⌊size/n⌋`` triplets of each of the n parts, at least one (TSV-Merge, arXiv 2412.00081)."""
    return [part.first(max(1, size // len(parts))) for part in parts]


def isotropic(spectrum: Triplets, scale: float = 1.0) -> LowRank:
    """``scale·mean(S)·U Vᵀ`` for orthonormal U and V (Iso-C, arXiv 2502.04959).

    Its singular values are equal but for a tilt of one part in a million in the order of S: a cut to a lower rank would
    keep arbitrary directions without it, and keeps the leading ones with it.
    """
    order = spectrum.S.argsort(descending=True)
    tilt = torch.linspace(_TILT / 2, -_TILT / 2, len(order), dtype=spectrum.S.dtype, device=spectrum.S.device)
    return LowRank(spectrum.U[:, order] * (scale * torch.mean(spectrum.S) * (1.0 + tilt)), spectrum.V[:, order])
