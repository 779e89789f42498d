"""The core of stacked factors: a sum of LoRA deltas as one thin product, and back to a LoRA of rank k.

``M = left @ rightᵀ`` with ``left [d_out, K]``, ``right [d_in, K]``: two thin QRs leave a K × K core that has M's singular
values, so nothing linear in the deltas is ever dense (Core Space, arXiv 2509.17786, uses SVD bases instead). All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import RefusedInputError

_ORTHONORMAL = 1e-10
_ROWS = 256
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The matrix ``left @ right.T``: ``left [d_out, K]``, ``right [d_in, K]``, float64."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A matrix M cut to rank k: ``M_k = factors.left @ factors.right.T``, with ‖M − M_k‖² and ‖M‖²."""

    factors: LowRank
    squared_error: float
    squared_norm: float


def refactor(matrix: LowRank | Tensor, rank: int) -> Cut:
    """The best approximation of ``matrix [d_out, d_in]`` of at most ``rank`` (Eckart-Young), balanced: ``U√S`` and ``V√S``.

    The number of columns is ``min(rank, d_out, d_in)``, for a :class:`LowRank` also at most its K.
    Raises RefusedInputError if ``matrix`` holds NaN or infinities.
    """
    parts = (matrix.left, matrix.right) if isinstance(matrix, LowRank) else (matrix,)
    if not all(bool(part.isfinite().all()) for part in parts):
        raise RefusedInputError("the merged delta has NaN or infinite entries", hint="adapterbank verify")
    return _cut_core(matrix, rank) if isinstance(matrix, LowRank) else _cut_dense(matrix, rank)


def scaled(matrix: LowRank | Tensor, scale: float) -> LowRank | Tensor:
    """``scale·matrix``; a dense one is changed in place."""
    return LowRank(matrix.left * scale, matrix.right) if isinstance(matrix, LowRank) else matrix.mul_(scale)


def svd(matrix: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """``U [d_out, q], S [q], V [d_in, q]`` with ``matrix = U diag(S) Vᵀ``, q = min(K, d_out, d_in) at most.

    The largest entry (by size) of each column of U is positive. Singular values that are rounding of the stacked factors
    (adapters that cancel) are exact zeros, so that a merge of nothing is nothing.
    """
    Q_left, R_left = torch.linalg.qr(matrix.left)
    Q_right, R_right = torch.linalg.qr(matrix.right)
    U, values, Vh = torch.linalg.svd(R_left @ R_right.T, full_matrices=False)
    terms = R_left.norm(dim=0) * R_right.norm(dim=0)  # the size of each rank-one term, whatever its gauge
    noise = len(terms) * _EPS * float(terms.sum())
    U, V = Q_left @ U, Q_right @ Vh.T
    signs = _signs(U)
    return U * signs, values.masked_fill(values <= noise, 0.0), V * signs


def _signs(U: Tensor) -> Tensor:
    """+1 or −1 per column: the sign of its largest entry."""
    pivots = U.abs().argmax(dim=0, keepdim=True)
    return torch.where(U.gather(0, pivots) < 0, -1.0, 1.0).to(U.dtype)


def _cut_core(matrix: LowRank, rank: int) -> Cut:
    U, S, V = svd(matrix)
    roots = S[:rank].sqrt()
    factors = LowRank(U[:, :rank] * roots, V[:, :rank] * roots)
    return Cut(factors, float(S[rank:].square().sum()), float(S.square().sum()))


def _cut_dense(matrix: Tensor, rank: int) -> Cut:
    """Through the top eigenvectors of the smaller Gram matrix, then the SVD of the projection.

    The Gram matrix squares the condition number: directions below 1e-8·σ₁ are found only up to that, which changes the
    approximation by less than one float32 rounding. The error is measured by subtraction, so it is right in any case.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    top = _top_directions(matrix.T if wide else matrix, rank)
    projected = LowRank(top, matrix.T @ top) if wide else LowRank(matrix @ top, top)
    factors = _cut_core(projected, rank).factors
    error = 0.0
    for start in range(0, matrix.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        error += float((matrix[rows] - factors.left[rows] @ factors.right.T).square().sum())
    return Cut(factors, error, float(matrix.square().sum()))


def _top_directions(tall: Tensor, count: int) -> Tensor:
    """The ``count`` leading right singular vectors of ``tall [m, n]``, m ≥ n, as ``[n, min(count, n)]``."""
    vectors: Tensor = torch.linalg.eigh(tall.T @ tall).eigenvectors[:, -count:].flip(1)
    deviation = vectors.T @ vectors - torch.eye(vectors.shape[1], dtype=vectors.dtype)
    if float(deviation.abs().max()) > _ORTHONORMAL:  # seen from batched and divide-and-conquer solvers
        vectors = torch.linalg.svd(tall, full_matrices=False).Vh[:count].T
    return vectors.contiguous()
