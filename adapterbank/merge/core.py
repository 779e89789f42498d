"""The core of stacked factors: a sum of LoRA deltas as one thin product, and back to a LoRA of rank k.

``M = left @ rightᵀ`` with ``left [d_out, K]``, ``right [d_in, K]``: two thin QRs leave a K × K core that has M's singular
values, so nothing linear in the deltas is ever dense (Core Space, arXiv 2509.17786, uses SVD bases instead). All in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TypeVar

import torch
from torch import Tensor

from adapterbank.errors import RefusedInputError
from adapterbank.linalg.leading import squared_norm
from adapterbank.linalg.workers import share_out
from adapterbank.merge.dense import finite, projected, projected_to, squared_distance, top_directions

_EPS = torch.finfo(torch.float64).eps
_WIDE = 256  # columns: from here on Gram matrices are faster than QR
_BLOCK = 128
_CLEAR = 1e-2  # share of ‖M‖² whose float32 sums are off by 1e-6
_PRECISE = 1e-6  # share of ‖M‖²: what is lost is a difference of squares, and less is not to be trusted

T = TypeVar("T")


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


def refactor(matrix: LowRank | Tensor, rank: int, near: LowRank | None = None) -> Cut:
    """The best approximation of ``matrix [d_out, d_in]`` of at most ``rank`` (Eckart-Young), balanced: ``U√S`` and ``V√S``.

    The number of columns is ``min(rank, d_out, d_in)``, for a :class:`LowRank` also at most its K. A large dense matrix is
    approximated within 1/1000 of the best (:func:`~adapterbank.merge.dense.projected`), sooner if ``near`` resembles it.
    Raises RefusedInputError if ``matrix`` holds NaN or infinities.
    """
    _check(matrix)
    if isinstance(matrix, LowRank):
        wide = matrix.left.shape[1] > _WIDE and 2 * rank < matrix.left.shape[1]
        return (_cut_wide(matrix, rank) if wide else None) or _cut(matrix, rank)
    return _measured(matrix, LowRank(*projected(matrix, rank, (near.left, near.right) if near else None)), rank)


def refactor_to(matrix: LowRank | Tensor, energy: float) -> Cut:
    """The same of the least rank, one at least, that keeps the share ``energy`` of ‖M‖²: an error of ``√(1 − energy)``."""
    _check(matrix)
    thin = matrix if isinstance(matrix, LowRank) else LowRank(*projected_to(matrix, energy))
    kept = svd(thin)[1].square().cumsum(0)
    norm = float(kept[-1]) if isinstance(matrix, LowRank) else float(matrix.double().square().sum())
    rank = int((kept < energy * norm * (1.0 - len(kept) * _EPS)).sum()) + 1
    return _cut(matrix, rank) if isinstance(matrix, LowRank) else _measured(matrix, thin, rank)


def scaled(matrix: LowRank | Tensor, scale: float) -> LowRank | Tensor:
    """``scale·matrix``; a dense one is changed in place."""
    return LowRank(matrix.left * scale, matrix.right) if isinstance(matrix, LowRank) else matrix.mul_(scale)


def svd(matrix: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """``U [d_out, q], S [q], V [d_in, q]`` with ``matrix = U diag(S) Vᵀ``, q = min(K, d_out, d_in) at most.

    The largest entry (by size) of each column of U is positive. Singular values that are rounding of the stacked factors
    (adapters that cancel) are exact zeros, so that a merge of nothing is nothing.
    """
    (Q_left, R_left), (Q_right, R_right) = _both(torch.linalg.qr, (matrix.left, matrix.right))
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


def _check(matrix: LowRank | Tensor) -> None:
    parts = (matrix.left, matrix.right) if isinstance(matrix, LowRank) else (matrix,)
    if not all(finite(part) for part in parts):
        raise RefusedInputError("the merged delta has NaN or infinite entries", hint="adapterbank verify")


def _cut(matrix: LowRank, rank: int) -> Cut:
    U, S, V = svd(matrix)
    roots = S[:rank].sqrt()
    factors = LowRank(U[:, :rank] * roots, V[:, :rank] * roots)
    return Cut(factors, float(S[rank:].square().sum()), float(S.square().sum()))


def _measured(matrix: Tensor, near: LowRank, rank: int) -> Cut:
    """``near``, a projection of the dense ``matrix`` on some directions, cut to ``rank``.

    What a projection loses is a difference of squares; it is measured by subtraction where that could not be seen.
    """
    cut, norm = _cut(near, rank), squared_norm(matrix)
    lost = norm - (cut.squared_norm - cut.squared_error)
    if lost <= _CLEAR * norm:
        lost = squared_distance(matrix, cut.factors.left, cut.factors.right)
    return Cut(cut.factors, lost, norm)


def _cut_wide(matrix: LowRank, rank: int) -> Cut | None:
    """Many columns, few of them wanted: the core from Cholesky factors of the two Gram matrices, without any Q.

    The core's leading right vectors X give M's left ones, ``left @ (R_rightᵀ X)``; M projected on those is exact, whatever
    X lacks. None where columns depend on each other too much for that, or so little is lost that it cannot be seen.
    """
    grams = _gram(matrix.left), _gram(matrix.right)
    (R_left, failed), (R_right, failed_too) = _both(lambda gram: torch.linalg.cholesky_ex(gram, upper=True), grams)
    if int(failed) or int(failed_too):
        return None
    core = R_left @ R_right.T
    columns = matrix.left @ (R_right.T @ top_directions(core, rank))
    U = torch.linalg.qr(columns).Q
    factors = _cut(LowRank(U, matrix.right @ (matrix.left.T @ U)), rank).factors
    norm = float((grams[0] * grams[1]).sum())
    lost = norm - float(factors.left.square().sum(dim=0).square().sum())  # U√S has the squared norms S
    return Cut(factors, lost, norm) if lost > _PRECISE * norm else None


def _gram(side: Tensor) -> Tensor:
    """``side.T @ side``, block by block above the diagonal."""
    gram = side.new_empty(side.shape[1], side.shape[1])
    blocks = [slice(start, start + _BLOCK) for start in range(0, side.shape[1], _BLOCK)]

    def fill(pair: tuple[slice, slice]) -> None:
        block = side[:, pair[0]].T @ side[:, pair[1]]
        gram[pair] = block
        gram[pair[::-1]] = block.T

    share_out(fill, combinations_with_replacement(blocks, 2))
    return gram


def _both(task: Callable[[Tensor], T], sides: tuple[Tensor, Tensor]) -> list[T]:
    """``task`` of the left and of the right, each on a thread of its own."""
    results: list[T] = []
    share_out(task, sides, results.append)
    return results
