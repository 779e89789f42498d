"""A dense module cut to a rank: which directions to keep, and what is lost."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterbank.linalg.leading import leading, row_space, squared_norm, stripes
from adapterbank.linalg.workers import share_out

_SMALL = 512  # of the smaller side: up to here a Gram matrix is decomposed whole
_ORTHONORMAL = 1e-10
_RANKS = (32, 128, 512)  # tried for an energy, before all directions


def projected(matrix: Tensor, rank: int, near: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """``left [d_out, k]`` and ``right [d_in, k]`` in float64, k ≤ ``rank``: M projected on its ``rank`` leading directions.

    Small matrices and high ranks go through the eigenvectors of the smaller Gram matrix. Others go through a block Krylov
    iteration in the matrix' own dtype, which ends when the residual ‖M − M_k‖ is within 1/1000 of the least possible. It is
    shorter if M resembles the product ``near[0] @ near[1].T``.
    """
    if min(matrix.shape) > _SMALL:
        found = leading(matrix, rank, None if near is None else row_space(*near, rank))
        if found is not None:
            U, S, V = found
            return U * S, V
    return _through_gram(matrix, rank)


def projected_to(matrix: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """The same with enough directions for the share ``energy`` of ‖M‖²; up to four times as many as needed."""
    norm = squared_norm(matrix)
    for rank in _RANKS if min(matrix.shape) > _SMALL else ():
        found = leading(matrix, rank)
        if found is None:
            break
        U, S, V = found
        if float(S.square().sum()) >= energy * norm:
            return U * S, V
    return _through_gram(matrix, min(matrix.shape))


def squared_distance(matrix: Tensor, left: Tensor, right: Tensor) -> float:
    """‖M − left @ rightᵀ‖², by subtraction."""
    near, narrow = left.to(matrix.dtype), right.T.to(matrix.dtype)
    parts: list[float] = []
    share_out(
        lambda rows: float(torch.addmm(matrix[rows], near[rows], narrow, alpha=-1.0).square().sum()),
        stripes(len(matrix)),
        parts.append,
    )
    return sum(parts)


def finite(matrix: Tensor) -> bool:
    """Whether all entries are."""
    found: list[bool] = []
    share_out(lambda rows: _finite(matrix[rows]), stripes(len(matrix)), found.append)
    return all(found)


def _finite(stripe: Tensor) -> bool:
    return bool(stripe.sum().isfinite()) or bool(stripe.isfinite().all())  # a sum is faster, but may overflow


def top_directions(tall: Tensor, count: int) -> Tensor:
    """The ``count`` leading right singular vectors of ``tall [m, n]``, m ≥ n, float64, as ``[n, min(count, n)]``.

    The Gram matrix squares the condition number: directions below 1e-8·σ₁ are found only up to that, which changes the
    approximation by less than one float32 rounding.
    """
    vectors: Tensor = torch.linalg.eigh(tall.T @ tall).eigenvectors[:, -count:].flip(1)
    deviation = vectors.T @ vectors - torch.eye(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    if float(deviation.abs().max()) > _ORTHONORMAL:  # seen from batched and divide-and-conquer solvers
        vectors = torch.linalg.svd(tall, full_matrices=False).Vh[:count].T
    return vectors.contiguous()


def _through_gram(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    wide, exact = matrix.shape[0] < matrix.shape[1], matrix.double()
    top = top_directions(exact.T if wide else exact, rank)
    return (top, exact.T @ top) if wide else (exact @ top, top)
