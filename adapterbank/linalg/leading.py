"""The leading singular triplets of a large dense matrix, by a block Krylov iteration that knows when to stop.

Block Golub-Kahan bidiagonalisation with full reorthogonalisation (Golub and Van Loan, *Matrix Computations*, §10.4; the
analysis from a random start is arXiv 1504.05477): orthonormal U and V grow by a block a step, UᵀMV stays small, and what its
singular triplets still lack is known without another product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from adapterbank.linalg.threads import one_thread
from adapterbank.linalg.workers import share_out

_OVER = 16  # columns of a block beyond the rank: the last directions that are wanted converge sooner
_STRIPE = 512  # rows or columns of M that one thread multiplies at a time
_STEPS = 12
_KEY = 0x7374617274  # of the random start
_FLOOR = 64  # roundings of M's dtype, relative to ‖M‖²: nothing below is sought


def leading(matrix: Tensor, rank: int, tolerance: float = 1e-3) -> tuple[Tensor, Tensor, Tensor] | None:
    """``U [m, rank], S [rank], V [n, rank]`` in float64 with ``‖M − U S Vᵀ‖`` at most ``1 + tolerance`` times the least.

    ``matrix [m, n]`` is finite, float32 or float64. The iteration ends when the singular values can together be off by so
    little: each lies within its residual norm (Weyl). None if that is not so after twelve steps, or if their columns would
    be a quarter of the smaller side. The start is fixed and so are the stripes: no bit depends on the number of threads.
    """
    norm = squared_norm(matrix)
    floor = _FLOOR * torch.finfo(matrix.dtype).eps * norm
    with one_thread():
        for U, S, V, residuals in _steps(matrix, rank):
            lost = max(0.0, norm - float(S.square().sum()))
            doubt = float((2.0 * S * residuals + residuals.square()).sum())
            if doubt <= 2.0 * tolerance * lost + floor:
                return U, S, V
    return None


def squared_norm(matrix: Tensor) -> float:
    """‖M‖²: stripes in their own dtype, their sum in float64."""
    parts: list[float] = []
    share_out(lambda rows: float(matrix[rows].square().sum()), stripes(matrix.shape[0]), parts.append)
    return sum(parts)


def stripes(length: int) -> Iterator[slice]:
    """Slices of rows or columns, one for a thread at a time."""
    return (slice(start, min(start + _STRIPE, length)) for start in range(0, length, _STRIPE))


def _steps(matrix: Tensor, rank: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """After each step the leading Ritz triplets, and ‖Mᵀu − σv‖ of each; Mv = σu holds exactly."""
    m, n = matrix.shape
    width = -(-(rank + _OVER) // 8) * 8
    block = torch.linalg.qr(_start(n, width).to(matrix.device)).Q
    V, U = block, block.new_empty(m, 0)
    B = block.new_empty(0, 0)  # UᵀMV
    for step in range(1, _STEPS + 1):
        if 4 * step * width > min(m, n):
            return
        onto, new, below = _orthonormal(_times(matrix, block), U)
        B = torch.cat([torch.cat([B, B.new_zeros(width, B.shape[1])]), torch.cat([onto, below])], dim=1)
        U = torch.cat([U, new], dim=1)
        _, block, beside = _orthonormal(_transposed_times(matrix, new), V)
        left, values, right = torch.linalg.svd(B)
        residuals = (beside @ left[-width:, :rank]).norm(dim=0)
        yield U @ left[:, :rank], values[:rank], V @ right[:rank].T, residuals
        V = torch.cat([V, block], dim=1)


def _orthonormal(block: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``onto, new, rest`` with ``block = basis @ onto + new @ rest``, the columns of ``new`` orthonormal and off ``basis``.

    The second pass puts columns that QR had to invent, where the block had lost rank, off the basis too.
    """
    onto = basis.T @ block
    first, rest = torch.linalg.qr(block - basis @ onto)
    again = basis.T @ first
    new, correction = torch.linalg.qr(first - basis @ again)
    return onto + again @ rest, new, correction @ rest


def _start(rows: int, columns: int) -> Tensor:
    """Random signs ``[rows, columns]`` in float64, counted out by Philox."""
    words = np.random.Philox(key=_KEY).random_raw(-(-rows * columns // 64))
    bits = np.unpackbits(words.view(np.uint8), count=rows * columns)
    return torch.from_numpy(bits.reshape(rows, columns)).double() * 2.0 - 1.0


def _times(matrix: Tensor, block: Tensor) -> Tensor:
    """``M @ block`` in float64, computed in M's dtype."""
    product, narrow = matrix.new_empty(matrix.shape[0], block.shape[1]), block.to(matrix.dtype)
    share_out(lambda rows: torch.mm(matrix[rows], narrow, out=product[rows]), stripes(len(matrix)))
    return product.double()


def _transposed_times(matrix: Tensor, block: Tensor) -> Tensor:
    """``M.T @ block`` in float64, computed in M's dtype."""
    product, narrow = matrix.new_empty(matrix.shape[1], block.shape[1]), block.to(matrix.dtype)
    share_out(lambda columns: torch.mm(matrix[:, columns].T, narrow, out=product[columns]), stripes(matrix.shape[1]))
    return product.double()
