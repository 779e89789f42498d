"""Reversible Model Merging at every position: mean, components, coefficients (arXiv 2510.14163, §5).

At position j (a row of ``lora_B`` or a column of ``lora_A``) the n adapters hold the vectors x₁ … xₙ ∈ ℝʳ. Their mean μ, the p
leading eigenvectors b₁ … b_p of their covariance and the coefficients c_ik = ⟨b_k, x_i − μ⟩ give x̂_i = μ + Σ_k c_ik·b_k: by
Eckart–Young no p-dimensional affine subspace does better. All positions are solved together, in row blocks, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.linalg.batched import eigh

_BLOCK_BYTES = 4 << 20  # of a row block's stack in float64: it stays in cache, and allocations of this size are reused
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted stack, float64: ``mean [D, r]``, ``components [p, D, r]``, ``coefficients [n, D, p]``.

    ``energies [p]`` are the sums over all positions of the eigenvalues along each component, ``energy`` that of all of them.
    """

    mean: Tensor
    components: Tensor
    coefficients: Tensor
    energies: Tensor
    energy: float


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """Mean ``[D, r]`` and leading eigenvectors ``[p, D, r]`` of a stack of rows; ``energies`` and ``energy`` as in Fit."""

    mean: Tensor
    components: Tensor
    energies: Tensor
    energy: float


def most_components(members: int, rank: int) -> int:
    """min(r, n − 1): with so many components a fit is exact."""
    return max(0, min(rank, members - 1))


def row_blocks(start: int, stop: int, members: int, rank: int) -> Iterator[slice]:
    """Consecutive slices of ``range(start, stop)`` that bound the memory of fitting one."""
    step = max(64, _BLOCK_BYTES // (8 * members * rank))
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))


def fit(stack: Tensor, components: int) -> Fit:
    """Fit ``stack [n, D, r]`` with p = ``components`` at every row.

    Components beyond min(r, n − 1), and directions in which a row does not vary, are zero. Signs are fixed (the largest
    entry of a component is positive). Raises UsageError for a negative p or an empty stack.
    """
    if components < 0 or stack.ndim != 3 or len(stack) == 0:
        raise UsageError(f"fit: expected a stack [n, D, r] and p ≥ 0, got {list(stack.shape)} and p = {components}")
    n, D, r = stack.shape
    mean = stack.new_zeros((D, r), dtype=torch.float64)
    parts = stack.new_zeros((components, D, r), dtype=torch.float64)
    coefficients = stack.new_zeros((n, D, components), dtype=torch.float64)
    energies, energy = mean.new_zeros(components), 0.0
    for rows in row_blocks(0, D, n, r):
        block = stack[:, rows].double()
        found = principal(block, components)
        mean[rows], parts[:, rows] = found.mean, found.components
        coefficients[:, rows] = project(block, found.mean, found.components)
        energies += found.energies
        energy += found.energy
    return Fit(mean, parts, coefficients, energies, energy)


def principal(stack: Tensor, components: int) -> Principal:
    """Mean and leading eigenvectors of one row block ``stack [n, D, r]``, float64.

    The smaller Gram matrix is solved: r×r, or n×n where there are fewer members than columns. For identical members, and
    along eigenvalues that drown in rounding, components are zero.
    """
    n, D, r = stack.shape
    mean = stack.mean(dim=0)
    centred = (stack - mean).transpose(0, 1).contiguous()  # [D, n, r]
    p = min(components, most_components(n, r))
    if r <= n:
        values, vectors = eigh(centred.mT @ centred)
        leading = vectors[:, :, r - p :].flip(-1).mT  # [D, p, r]
    else:
        values, vectors = eigh(centred @ centred.mT)
        leading = torch.nn.functional.normalize(vectors[:, :, n - p :].flip(-1).mT @ centred, dim=-1, eps=1e-300)
    values = values.flip(-1).clamp_min(0.0)
    kept = _above_rounding(values[:, :p], values[:, :1], stack)
    padded = stack.new_zeros((components, D, r))
    padded[:p] = torch.where(kept.unsqueeze(-1), _fix_signs(leading), 0.0).transpose(0, 1)
    energies = torch.nn.functional.pad(values[:, :p].sum(dim=0), (0, components - p))
    return Principal(mean, padded, energies, float(values.sum()))


def project(rows: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """Least-squares coefficients ``[…, D, p]`` of ``rows […, D, r]`` on ``mean [D, r]`` and ``components [p, D, r]``, float64.

    ``components`` are orthonormal up to the rounding of the dtype they are stored in, or zero. That rounding is taken out of
    the coefficients (bfloat16: from 4e-3 to 1e-9); those of a zero component are 0.
    """
    basis = components.double().permute(1, 2, 0)  # [D, r, p]
    centred = (rows.double() - mean.double()).movedim(-2, 0)  # [D, …, r]
    flat = centred.reshape(len(basis), -1, centred.shape[-1])
    found = flat @ basis @ _inverse(basis.mT @ basis)
    return found.reshape(*centred.shape[:-1], -1).movedim(0, -2)


def _inverse(gram: Tensor) -> Tensor:
    """1 + E + E² + E³ with E = 1 − ``gram [D, p, p]``: the inverse of a nearly orthonormal set's Gram matrix, up to E⁴."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    E = identity - gram
    return identity + E @ (identity + E @ (identity + E))


def _above_rounding(values: Tensor, largest: Tensor, stack: Tensor) -> Tensor:
    """Which eigenvalues ``[D, p]`` are more than rounding: of the Gram matrix, or of the rows themselves before centring."""
    n, _, r = stack.shape
    floor = (16 * _EPS) ** 2 * stack.square().sum(dim=(0, 2)).unsqueeze(-1)
    return values > torch.maximum(max(n, r) * _EPS * largest, floor)


def _fix_signs(vectors: Tensor) -> Tensor:
    """``vectors [D, p, r]`` with the entry of largest magnitude positive."""
    largest = vectors.gather(-1, vectors.abs().argmax(dim=-1, keepdim=True))
    return torch.where(largest < 0.0, -vectors, vectors)
