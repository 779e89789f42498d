"""RobustMerge (arXiv 2502.17159): prune the factors, and scale each rank unit up for what its A lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.participants import nothing, weighted

MaskRatio = Annotated[float, Hint("share of the entries of each A and B that is kept", above=0.0, at_most=1.0)]
AttRatio = Annotated[float, Hint("share of the rank units whose scale is above the floor", above=0.0, at_most=1.0)]
Fuse = Annotated[float, Hint("multiplies both merged factors (the authors' fuse_weight)")]


def robust_merge(inputs: Inputs, *, mask_ratio: MaskRatio = 0.2, att_ratio: AttRatio = 0.2, fuse_weight: Fuse = 2.0) -> Pieces:
    """``A = f Σ m∘A_i`` and ``B = f Σ s_i (m∘B_i) / Σ s_i`` per rank unit, as the authors' code has it.

    m keeps the entries of one factor at least as large as its ``⌊N·(1 − mask_ratio)⌋``-th smallest. The scale ``s_i`` of a unit
    is ``‖a‖₁/‖m∘a‖₁`` of its row of A_i, raised to that of unit ``⌊r·(1 − att_ratio)⌋`` of the adapter (from 0, ascending).
    A and B are merged apart, with terms for every pair of adapters, and the result depends on the gauge: the same initial
    A helps.

    Ours: weights, the w_i multiply B_i; a unit of which nothing is kept has the floor for a scale (the authors divide by
    zero). Raises IncompatibleError for unequal ranks.
    """
    for stack in inputs:
        parts = weighted(stack)
        ranks = sorted({part.left.shape[1] for part in parts})
        if len(ranks) > 1:
            raise IncompatibleError(
                f"robust_merge joins the rank units of the adapters: module {stack.module!r} has the ranks {ranks}, expected"
                " equal ones",
                hint="tsv_m merges adapters of any ranks",
            )
        merged = _merged(parts, mask_ratio, att_ratio) if parts else nothing(stack)
        yield Piece(stack.module, LowRank(merged.left * fuse_weight, merged.right * fuse_weight))


def _merged(parts: Sequence[LowRank], mask_ratio: float, att_ratio: float) -> LowRank:
    rights = [_pruned(part.right, mask_ratio) for part in parts]
    scales = torch.stack([_scales(part.right, kept, att_ratio) for part, kept in zip(parts, rights, strict=True)])
    lefts = torch.stack([_pruned(part.left, mask_ratio) for part in parts])
    sums = scales.sum(dim=0)
    left = (lefts * scales.unsqueeze(1)).sum(dim=0) / sums.masked_fill(sums == 0.0, 1.0)
    return LowRank(left, torch.stack(rights).sum(dim=0))


def _pruned(factor: Tensor, ratio: float) -> Tensor:
    place = max(1, int(factor.numel() * (1.0 - ratio)))
    threshold = factor.abs().flatten().kthvalue(place).values
    return factor.masked_fill(factor.abs() < threshold, 0.0)


def _scales(right: Tensor, kept: Tensor, ratio: float) -> Tensor:
    """One for each rank unit, a column of ``right [d_in, r]``."""
    whole, rest = right.abs().sum(dim=0), kept.abs().sum(dim=0)
    scales = torch.where(rest > 0.0, whole / rest.masked_fill(rest == 0.0, 1.0), 0.0)
    place = min(int(len(scales) * (1.0 - ratio)), len(scales) - 1)
    return scales.clamp(min=float(scales.sort().values[place]))


METHOD = Method(
    name="robust_merge",
    merge=robust_merge,
    kind="factors",
    summary="factors pruned and merged apart, each rank unit scaled up for what its A lost",
    formula="M = f²·(Σ s·m∘(w·B) / Σ s)(Σ m∘A)",
    source="arXiv 2502.17159",
    laws={"itself": {"mask_ratio": 1.0, "fuse_weight": 1.0}, "order": {}, "zero_weight": {}},
    keeps_rank=True,
)
