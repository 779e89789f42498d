"""The leading singular triplets of a large dense matrix, by a block Krylov iteration that knows when to stop.

Block Lanczos on MMᵀ with full reorthogonalisation (Golub and Van Loan, *Matrix Computations*, §10.3; the analysis from a random
start is arXiv 1504.05477): orthonormal U grows by a block a step, and MᵀU gives the best approximation with columns in U. A
start that knows most of the directions saves steps; random columns beside it see what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from adapterbank.linalg.threads import one_thread
from adapterbank.linalg.workers import share_out

_OVER = 48  # columns of a block beyond the rank: wide blocks cost little more to multiply, and save steps
_RANDOM = 16  # columns at least that no start has chosen
_STRIPE = 512  # rows or columns of M that one thread multiplies at a time
_STEPS = 12
_TAIL = 4.0  # times the last gain: what is still missing; noise, the slowest there is, was measured at 3
_KEY = 0x7374617274  # of the random columns
_FLOOR = 64  # roundings of M's dtype, relative to ‖M‖²: nothing below is sought


def leading(
    matrix: Tensor, rank: int, start: Tensor | None = None, tolerance: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor] | None:
    """``U [m, rank], S [rank], V [n, rank]`` in float64 with ``‖M − U S Vᵀ‖`` at most ``1 + tolerance`` times the least.

    ``matrix [m, n]`` is finite, float32 or float64. ``start [n, b]`` are columns near M's leading right directions, in any
    coordinates. The iteration ends when the last half step, from U UᵀM to M V, which is the result, brought so little of ‖M‖²
    that all further ones cannot matter. None if that is not so after twelve steps, or if their columns would be a quarter of
    the smaller side. Random columns are fixed and so are the stripes: no bit depends on the number of threads.
    """
    norm = squared_norm(matrix)
    floor = _FLOOR * torch.finfo(matrix.dtype).eps * norm
    with one_thread():
        for V, captured in _steps(matrix, _block(matrix, rank, start), rank):
            columns = _times(matrix, V)
            reached = float(columns.square().sum())
            if _TAIL * (reached - captured) <= 2.0 * tolerance * max(0.0, norm - reached) + floor:
                return _triplets(columns, V)
    return None


def row_space(left: Tensor, right: Tensor, rank: int) -> Tensor:
    """``[n, b]``: columns near the leading right directions of ``left @ right.T``, as a start for a matrix that resembles it.

    All of ``right`` that has a part in the product if it is not much wider than ``rank``, else a sketch of the product.
    """
    used = right[:, left.any(dim=0)]
    if used.shape[1] <= rank + _OVER:
        return used
    sketch = left @ (right.T @ _signs(len(right), rank + _OVER).to(right))
    sides: Tensor = left.T @ torch.linalg.qr(sketch).Q
    return right @ sides


def squared_norm(matrix: Tensor) -> float:
    """‖M‖²: stripes in their own dtype, their sum in float64."""
    parts: list[float] = []
    share_out(lambda rows: float(matrix[rows].square().sum()), stripes(matrix.shape[0]), parts.append)
    return sum(parts)


def stripes(length: int) -> Iterator[slice]:
    """Slices of rows or columns, one for a thread at a time."""
    return (slice(start, min(start + _STRIPE, length)) for start in range(0, length, _STRIPE))


def _block(matrix: Tensor, rank: int, start: Tensor | None) -> Tensor:
    """Orthonormal columns to begin with, ``[n, w]``."""
    rows, width = matrix.shape[1], -(-(rank + _OVER) // 8) * 8
    if start is None or not start.shape[1]:
        columns = _signs(rows, width).to(matrix.device)
    else:
        extra = max(_RANDOM, width - start.shape[1])
        columns = torch.cat([start.double(), _signs(rows, extra).to(matrix.device)], dim=1)
    block: Tensor = torch.linalg.qr(columns).Q
    return block


def _steps(matrix: Tensor, block: Tensor, rank: int) -> Iterator[tuple[Tensor, float]]:
    """After each step ``V [n, rank]``, the leading right vectors of U UᵀM, and how much of ‖M‖² these triplets have."""
    (m, n), width = matrix.shape, block.shape[1]
    U, Z = block.new_empty(m, 0), block.new_empty(n, 0)  # Z = MᵀU
    for step in range(1, _STEPS + 1):
        if 4 * step * width > min(m, n):
            return
        new = _orthonormal(_times(matrix, block), U)
        U, Z = torch.cat([U, new], dim=1), torch.cat([Z, _transposed_times(matrix, new)], dim=1)
        Q, R = torch.linalg.qr(Z)
        left, values, _ = torch.linalg.svd(R)
        yield Q @ left[:, :rank], float(values[:rank].square().sum())
        block = Q[:, -width:]


def _triplets(columns: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular triplets of ``columns @ V.T``."""
    Q, R = torch.linalg.qr(columns)
    left, values, right = torch.linalg.svd(R)
    return Q @ left, values, V @ right.T


def _orthonormal(block: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal columns that span ``block`` beside ``basis``.

    The second pass puts columns that QR had to invent, where the block had lost rank, off the basis too.
    """
    for _ in range(2 if basis.shape[1] else 1):
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
    return block


def _signs(rows: int, columns: int) -> Tensor:
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
