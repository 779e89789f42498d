"""Sub-MoE (arXiv 2506.23266): experts of one cluster merged in the left singular space that they share."""

from __future__ import annotations

from typing import Annotated

import torch

from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack


def sub_moe(
    inputs: Inputs, *, shared_rank: Annotated[int, Hint("k, columns of U kept; 0: the largest input rank", above=-1)] = 0
) -> Pieces:
    """``[ΔW_1|…|ΔW_n] = U S [V_1ᵀ|…|V_nᵀ]``, cut to k columns of U; ``M = U S V_Mᵀ`` with ``V_M = Σ f_i V_i / Σ f_i``.

    The weights are the authors' activation frequencies f. Without the cut M is the weighted mean: the shared space matters
    only through what it leaves out. Which adapters form a cluster is :func:`~adapterbank.merge.clusters.assign`'s answer; this
    merges one. Reports ``outside``, the part of the weighted mean that the k shared directions do not reach. U comes from the
    factors through thin QRs; no delta is dense.
    """
    for stack in inputs:
        mean = stack.combine(stack.shares("sub_moe"))
        U = _shared(stack, shared_rank or stack.rank)
        inside = mean.right @ (mean.left.T @ U)  # (UᵀM)ᵀ
        rest = mean.left - U @ (U.T @ mean.left)
        outside = torch.linalg.qr(mean.right, mode="r").R @ rest.T
        errors = {"outside": (float(outside.square().sum()), float(outside.square().sum() + inside.square().sum()))}
        yield Piece(stack.module, LowRank(U, inside), errors)


def _shared(stack: Stack, rank: int) -> torch.Tensor:
    """The leading left singular vectors ``[d_out, ≤ rank]`` of all deltas side by side.

    With ΔW_i = L_i·T_iᵀ·Q_iᵀ, Q_i orthonormal, they are those of ``[L_1 T_1ᵀ|…|L_n T_nᵀ]``, which is thin.
    """
    thin = [left @ torch.linalg.qr(right, mode="r").R.T for left, right in zip(stack.lefts, stack.rights, strict=True)]
    side_by_side = torch.cat(thin, dim=1)
    U, S, _ = svd(LowRank(side_by_side, torch.eye(side_by_side.shape[1]).to(side_by_side)))
    return U[:, :rank] * (S[:rank] > 0.0)


METHOD = Method(
    name="sub_moe",
    merge=sub_moe,
    kind="equivariant",
    summary="weighted mean in the left singular space shared by a cluster",
    formula="M = U_k U_kᵀ · Σ f·ΔW / Σ f, U of [ΔW_1|…|ΔW_n]",
    source="arXiv 2506.23266",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {"shared_rank": 99}, "gauge": {}},
)
