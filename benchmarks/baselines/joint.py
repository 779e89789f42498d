"""Joint diagonalisation, Compress-then-Serve (arXiv 2407.00066): ΔW_i ≈ U·Σ_i·Vᵀ with U and V shared by the collection.

JD-Full has full Σ_i and orthonormal U, V (Tucker-2); JD-Diag has diagonal Σ_i (CP). Both by alternating least squares over the
sum of squared errors. All sums run in the span of the adapters' own rows and columns, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapterbank.lora.adapter import Factors
from benchmarks.baselines.collection import HALF, Collection, Form, assembled, half

SWEEPS = 10
_DIAGONAL_SWEEPS = 60
_RIDGE = 1e-9


def joint_full(collection: Collection, rank: int) -> Form:
    """U ``[d_out, R]``, V ``[d_in, R]`` for each module, and Σ ``[R, R]`` for each module of each adapter."""
    return _coded(collection, rank, _full)


def joint_diagonal(collection: Collection, rank: int) -> Form:
    """U and V as in :func:`joint_full`, and R numbers for each module of each adapter."""
    return _coded(collection, rank, _diagonal)


def _coded(collection: Collection, rank: int, solve: Callable[[Tensor, int], tuple[Tensor, Tensor, Tensor]]) -> Form:
    found, stored = {}, 0
    for name in collection.modules:
        members = collection.factors(name)
        left = torch.linalg.qr(torch.cat([f.B for f in members], dim=1)).Q
        right = torch.linalg.qr(torch.cat([f.A.T for f in members], dim=1)).Q
        cores = torch.stack([(left.T @ f.B) @ (f.A @ right) for f in members])
        U, middle, V = solve(cores, rank)
        U, middle, V = half(left @ U), half(middle), half(right @ V)
        stored += U.numel() + V.numel() + middle.numel()
        full = middle if middle.ndim == 3 else torch.diag_embed(middle)
        found[name] = [Factors(V.T, U @ of_one) for of_one in full]
    return Form(assembled(found), HALF * stored)


def _full(cores: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, Σ ``[n, R, R]``, V of ``cores [n, a, b]``, from the leading vectors of all columns and all rows."""
    U, V = _leading(cores, rank), _leading(cores.mT, rank)
    for _ in range(SWEEPS):
        U = _leading(cores @ V, rank)
        V = _leading(cores.mT @ U, rank)
    return U, U.T @ cores @ V, V


def _leading(stack: Tensor, rank: int) -> Tensor:
    """The ``rank`` leading left singular vectors of all of ``stack [n, a, b]`` beside each other."""
    wide = stack.movedim(0, 1).flatten(1)
    return torch.linalg.eigh(wide @ wide.T).eigenvectors.flip(-1)[:, :rank]


def _diagonal(cores: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, σ ``[n, R]``, V: CP by alternating least squares, from the components of JD-Full's and of the largest members'."""
    U, V = _start(cores, rank)
    for _ in range(_DIAGONAL_SWEEPS):
        values = _solve(_gram(U) * _gram(V), torch.einsum("nab,ar,br->rn", cores, U, V)).T
        U = _solve(_gram(V) * _gram(values), torch.einsum("nab,nr,br->ra", cores, values, V)).T
        U = U / U.norm(dim=0).clamp_min(1e-30)
        V = _solve(_gram(U) * _gram(values), torch.einsum("nab,nr,ar->rb", cores, values, U)).T
        V = V / V.norm(dim=0).clamp_min(1e-30)
    return U, _solve(_gram(U) * _gram(V), torch.einsum("nab,ar,br->rn", cores, U, V)).T, V


def _start(cores: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The singular pairs of all members with the largest singular values; with too few of them, random ones beside."""
    left, values, right = torch.linalg.svd(cores, full_matrices=False)
    order = values.flatten().argsort(descending=True)[:rank]
    member, k = order // values.shape[1], order % values.shape[1]
    U, V = left[member, :, k].T, right[member, k].T
    draw = torch.Generator().manual_seed(0)
    more = rank - U.shape[1]
    extra = (torch.randn(len(side), max(more, 0), generator=draw, dtype=cores.dtype) for side in (U, V))
    return tuple(torch.cat([side, new / len(new) ** 0.5], dim=1) for side, new in zip((U, V), extra, strict=True))  # type: ignore[return-value]


def _gram(factor: Tensor) -> Tensor:
    return factor.T @ factor


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    ridge = _RIDGE * gram.diagonal().mean().clamp_min(1e-300)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), right)
