"""Pico (arXiv 2604.16826): before a merge, damp the output directions that many adapters share."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from adapterbank.lora.delta import squared_norm
from adapterbank.merge.core import LowRank
from adapterbank.merge.participants import participants
from adapterbank.merge.preparation import Preparation
from adapterbank.merge.stack import Stack


def pico(stack: Stack) -> Stack:
    """``B_i ← B_i + U((a − 1) ∘ UᵀB_i)`` with ``[B_1|…|B_n] = U diag(s) Wᵀ``, ``c_k = s_k²/Σ s²``, ``a_k = 1/(1 + (n−1)c_k)``.

    A direction that carries all energy is divided by n, one that carries none stays. The A_i are untouched. The scalings
    are folded into the B_i first, which the authors' code need not do: there they are equal. It depends on how the size of
    ΔW_i is split between B_i and A_i, so on the gauge. n counts the adapters with the module, a delta and a weight.
    """
    present = participants(stack)
    if not present:
        return stack
    U, s = _directions(torch.cat([stack.lefts[i] for i in present], dim=1))
    shares = s.square() / s.square().sum()
    change = 1.0 / (1.0 + (len(present) - 1) * shares) - 1.0
    lefts = (left + U @ (change.unsqueeze(1) * (U.T @ left)) if i in present else left for i, left in enumerate(stack.lefts))
    return replace(stack, lefts=tuple(lefts))


def compensated(original: Stack, matrix: LowRank | Tensor) -> LowRank | Tensor:
    """``matrix`` rescaled to the mean of the norms ‖ΔW_i‖ before the preparation, weighted by |w_i|.

    So the result does not depend on a scale of the method. The authors average without weights.
    """
    present = participants(original)
    sizes = [abs(original.weights[i]) for i in present]
    norms = [sqrt(squared_norm(original.lefts[i], original.rights[i])) for i in present]
    norm = sqrt(squared_norm(matrix.left, matrix.right)) if isinstance(matrix, LowRank) else float(matrix.norm())
    if not norm or not present:
        return matrix
    scale = sum(size * own for size, own in zip(sizes, norms, strict=True)) / sum(sizes) / norm
    return LowRank(matrix.left * scale, matrix.right) if isinstance(matrix, LowRank) else matrix * scale


def _directions(columns: Tensor) -> tuple[Tensor, Tensor]:
    """The left singular vectors ``[d, k]`` and singular values ``[k]`` of ``columns [d, m]``, through its QR core."""
    Q, R = torch.linalg.qr(columns)
    U, s, _ = torch.linalg.svd(R, full_matrices=False)
    return Q @ U, s


PREPARATION = Preparation(
    name="pico",
    prepare=pico,
    finish=compensated,
    summary="damp the output directions that many adapters share",
    formula="B ← B + U((a − 1)∘UᵀB), a = 1/(1 + (n − 1)s²/Σs²), [B_1|…|B_n] = U s Wᵀ",
    source="arXiv 2604.16826",
)
