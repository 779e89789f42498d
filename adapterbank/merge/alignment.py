"""The rank units of several adapters brought onto one another: other factors, the same deltas.

A LoRA has no hidden units that could be permuted, as Git Re-Basin (arXiv 2209.04836) permutes a network's; its freedom is
``(B·G, G⁻¹·A)``. Two parts of it are enough: permutations with signs, which keep the units as they were trained, and
rotations. Factors are balanced first, so that no unit is long in B and short in A. All are aligned to the medoid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from adapterbank.linalg.assignment import assign
from adapterbank.linalg.procrustes import polar
from adapterbank.merge.clusters import medoid
from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.gram import cosines, gram
from adapterbank.merge.stack import Stack

Turn = Callable[[LowRank, LowRank], LowRank]
"""(the reference's factors, another's of equal rank) → the other's, aligned."""


def reference(stack: Stack) -> int:
    """The adapter that the others are aligned to: the medoid by cosines of ΔW, weighted; one of weight 0 does not count."""
    present = torch.tensor([float(left.any()) for left in stack.lefts])
    return medoid(cosines(gram(stack).cpu()), torch.tensor(stack.weights, dtype=torch.float64) * present)


def align(stack: Stack, balance: Callable[[LowRank], LowRank], turn: Turn) -> Stack:
    """Every adapter of ``stack`` balanced and turned onto the reference; ΔW stays the same.

    Lower ranks get zero columns up to the largest. An adapter that lacks the module keeps rank 0.
    """
    sides = [balance(LowRank(left, right)) for left, right in zip(stack.lefts, stack.rights, strict=True)]
    rank = max(side.left.shape[1] for side in sides)
    to = _widened(sides[reference(stack)], rank)
    turned = [turn(to, _widened(side, rank)) if side.left.shape[1] else side for side in sides]
    return replace(stack, lefts=tuple(side.left for side in turned), rights=tuple(side.right for side in turned))


def balanced_units(sides: LowRank) -> LowRank:
    """The same units with ‖b_k‖ = ‖a_k‖; a unit that is zero on one side stays as it is."""
    left, right = sides.left.norm(dim=0), sides.right.norm(dim=0)
    scale = torch.where(left * right > 0.0, (right / left).sqrt(), 1.0)
    return LowRank(sides.left * scale, sides.right / scale)


def balanced_spectrum(sides: LowRank) -> LowRank:
    """``U√S`` and ``V√S`` of the delta: a function of ΔW alone, up to a rotation of equal singular values."""
    U, S, V = svd(sides)
    return LowRank(U * S.sqrt(), V * S.sqrt())


def by_permutation(to: LowRank, other: LowRank) -> LowRank:
    """The units of ``other`` in the order, and with the signs, in which they fit those of ``to`` best.

    Largest Σ_k ⟨b_k, b'_p(k)⟩·⟨a_k, a'_p(k)⟩ over permutations p, the inner products of the rank-one terms, which know no sign;
    then each pair's sign is that of ⟨b, b'⟩ + ⟨a, a'⟩.
    """
    left, right = to.left.T @ other.left, to.right.T @ other.right
    columns = torch.tensor(assign(left * right), device=left.device)
    overlap = (left + right).gather(1, columns.unsqueeze(1)).squeeze(1)
    signs = torch.where(overlap < 0.0, -1.0, 1.0).to(left.dtype)
    return LowRank(other.left[:, columns] * signs, other.right[:, columns] * signs)


def by_rotation(to: LowRank, other: LowRank) -> LowRank:
    """``B'O`` and ``A'O`` with the orthogonal O that brings both together closest to those of ``to`` (Procrustes)."""
    O = polar(other.left.T @ to.left + other.right.T @ to.right)  # noqa: E741 - the field's letter
    return LowRank(other.left @ O, other.right @ O)


def unit_cosines(to: LowRank, other: LowRank) -> Tensor:
    """The cosine of each unit's rank-one term with the one in the same place of ``to`` ``[r]``; 0 where one is zero."""
    product = (to.left * other.left).sum(dim=0) * (to.right * other.right).sum(dim=0)
    norms = to.left.norm(dim=0) * other.left.norm(dim=0) * to.right.norm(dim=0) * other.right.norm(dim=0)
    return torch.where(norms > 0.0, product / norms, 0.0)


def _widened(sides: LowRank, rank: int) -> LowRank:
    missing = (0, rank - sides.left.shape[1])
    return LowRank(pad(sides.left, missing), pad(sides.right, missing))
