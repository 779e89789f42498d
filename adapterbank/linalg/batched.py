"""Eigen-decompositions of very many small Gram matrices: fast on every device, and checked after every solve.

Batched solvers have returned wrong vectors before (syevjBatched before CUDA 11.3u1) and change speed by a factor of 100
between releases (pytorch #183806), so a batch is cut into chunks and no result is used unseen. On the CPU LAPACK solves one
matrix after the other in one thread: callers share their row blocks out to threads (``workers``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapterbank.errors import AdapterBankError

_CHUNK = 1024  # matrices: 2 MB at 16×16, so that the check finds them in cache
_DEVICE_CHUNK = 65536
_TOLERANCE = 1e-10  # float64 solvers reach 1e-14; a wrong vector is off by 1e-3 and more


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[b, k]`` in ascending order and eigenvectors (columns) ``[b, k, k]`` of positive semi-definite matrices.

    ``matrices`` is ``[b, k, k]`` float64. Every solve is checked for orthonormality and residual; what fails is solved again
    by SVD on the CPU. Raises AdapterBankError if that fails too (NaN or infinite input, a broken LAPACK).
    """
    solved = [_solve(chunk) for chunk in torch.split(matrices, _CHUNK if matrices.device.type == "cpu" else _DEVICE_CHUNK)]
    return torch.cat([values for values, _ in solved]), torch.cat([vectors for _, vectors in solved])


def defects(matrices: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
    """The larger of ‖VᵀV − 1‖_max and ‖GV − VΛ‖_max / ‖G‖_max for each matrix ``[b]``; NaN where the result holds NaN."""
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    skew = (vectors.mT @ vectors - identity).abs().amax(dim=(1, 2))
    residual = (matrices @ vectors - vectors * values.unsqueeze(1)).abs().amax(dim=(1, 2))
    scale = matrices.abs().amax(dim=(1, 2))
    return torch.maximum(skew, residual / torch.where(scale > 0.0, scale, 1.0))


def _solve(matrices: Tensor) -> tuple[Tensor, Tensor]:
    if not bool(matrices.isfinite().all()):
        raise AdapterBankError("eigh: a Gram matrix holds NaN or infinite values", hint="adapterbank verify")
    values, vectors = torch.linalg.eigh(matrices)
    wrong = ~(defects(matrices, values, vectors) <= _TOLERANCE)
    if bool(wrong.any()):
        values[wrong], vectors[wrong] = _solve_by_svd(matrices[wrong])
    return values, vectors


def _solve_by_svd(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The same through another LAPACK routine, on the CPU: for a positive semi-definite matrix G = UΣUᵀ."""
    host = matrices.cpu()
    vectors, values, _ = torch.linalg.svd(host)
    values, vectors = values.flip(-1), vectors.flip(-1)
    worst = float(defects(host, values, vectors).max())
    if not worst <= _TOLERANCE:
        raise AdapterBankError(
            f"eigh: {len(host)} matrices of {host.shape[-1]}×{host.shape[-1]} came back wrong twice: defect {worst:.1e}, "
            f"expected at most {_TOLERANCE:.0e}",
            hint="another build of torch or LAPACK is needed; see adapterbank doctor",
        )
    return values.to(matrices.device), vectors.to(matrices.device)
