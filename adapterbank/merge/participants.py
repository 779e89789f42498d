"""Which adapters of a module take part in a merge that is not a plain sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterbank.merge.core import LowRank
from adapterbank.merge.stack import Stack


def participants(stack: Stack) -> tuple[int, ...]:
    """The places of the adapters that have the module, a delta that is not zero and a weight that is not 0.

    The others would count in n, the number of adapters that a method divides or shares by, without having anything to say.
    """
    return tuple(
        i
        for i, (left, right) in enumerate(zip(stack.lefts, stack.rights, strict=True))
        if stack.weights[i] != 0.0 and bool(left.any()) and bool(right.any())
    )


def weighted(stack: Stack) -> tuple[LowRank, ...]:
    """``w_i ΔW_i`` of the :func:`participants`, the weight folded into the left factor."""
    return tuple(LowRank(stack.lefts[i] * stack.weights[i], stack.rights[i]) for i in participants(stack))


def nothing(stack: Stack, rank: int = 1) -> LowRank:
    """A delta of zeros with ``rank`` columns: the merge of no participants."""
    return LowRank(stack.lefts[0].new_zeros(stack.d_out, rank), stack.rights[0].new_zeros(stack.d_in, rank))


def total(parts: Sequence[LowRank]) -> LowRank:
    """The sum of ``parts``, exact: their factors side by side."""
    return LowRank(torch.cat([part.left for part in parts], dim=1), torch.cat([part.right for part in parts], dim=1))
