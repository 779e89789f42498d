"""Inner products of deltas, from their factors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from adapterbank.merge.stack import Stack


def gram(stack: Stack) -> Tensor:
    """``⟨ΔW_i, ΔW_j⟩ [n, n]`` = tr((L_iᵀL_j)(R_jᵀR_i)) of one module; no delta is ever dense."""
    left, right = torch.cat(stack.lefts, dim=1), torch.cat(stack.rights, dim=1)
    products = (left.T @ left) * (right.T @ right)  # of every pair of rank-one terms
    owners = ownership(stack).to(products)
    return owners.T @ products @ owners


def ownership(stack: Stack) -> Tensor:
    """1 where a column of all left factors side by side is an adapter's, else 0 ``[Σ r_i, n]``; sums by it have one order."""
    return torch.eye(len(stack)).repeat_interleave(torch.tensor([side.shape[1] for side in stack.lefts]), dim=0)


def gram_of_all(stacks: Iterable[Stack], count: int) -> Tensor:
    """The same over all modules ``[count, count]``, on the CPU: a module that an adapter lacks counts as zero."""
    total = torch.zeros(count, count, dtype=torch.float64)
    for stack in stacks:
        places = torch.tensor(stack.members)
        total[places.unsqueeze(1), places] += gram(stack).cpu()
    return total


def cosines(products: Tensor) -> Tensor:
    """The cosines ``[n, n]`` of a Gram matrix, its diagonal 1; what is zero has cosine 0 with everything but itself."""
    norms = products.diagonal().clamp(min=0.0).sqrt()
    scale = torch.where(norms > 0.0, 1.0 / norms, 0.0)
    return (products * scale * scale.unsqueeze(1)).clamp(-1.0, 1.0).fill_diagonal_(1.0)
