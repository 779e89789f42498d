"""One final average of the workers of decentralised training (arXiv 2507.06542), with how far they were apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterbank.lora.delta import squared_norm
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.stack import Stack


def final_average(inputs: Inputs) -> Pieces:
    """``M = Σ w_k ΔW_k / Σ w_k``, the exact mean; weights may be the workers' counts of samples.

    Reports ``consensus_distance``, (Σ w ‖ΔW_k − M‖² / Σ w ‖ΔW_k‖²)^½, and ``covariance_term``, ‖mean(BA) − mean(B)·mean(A)‖ /
    ‖mean(BA)‖: what averaging the factors apart would lose. It is the covariance of B and A over the workers, and zero if they
    share A. In it a lower rank counts as zero columns and an absent module as zero factors. With weights of both signs the
    consensus distance has no meaning and is left out.
    """
    for stack in inputs:
        shares = stack.shares("final_average")
        mean = stack.combine(shares)
        errors = {"covariance_term": _covariance(stack, shares, mean)}
        if min(shares) >= 0.0:
            errors["consensus_distance"] = _consensus(stack, shares, mean)
        yield Piece(stack.module, mean, errors)


def _covariance(stack: Stack, shares: Sequence[float], mean: LowRank) -> tuple[float, float]:
    """‖Σ p_k (B_k − B̄)(A_k − Ā)‖² with B̄ = Σ p_k B_k and Ā = Σ p_k A_k, and ‖M‖²."""
    lefts, rights = _centred(stack.lefts, shares), _centred(stack.rights, shares)
    weighted = torch.cat([left * share for left, share in zip(lefts, shares, strict=True)], dim=1)
    return squared_norm(weighted, torch.cat(rights, dim=1)), squared_norm(mean.left, mean.right)


def _centred(sides: Sequence[Tensor], shares: Sequence[float]) -> list[Tensor]:
    """Each side, widened by zero columns to the largest rank, less their weighted mean."""
    rank = max(side.shape[1] for side in sides)
    wide = [torch.nn.functional.pad(side, (0, rank - side.shape[1])) for side in sides]
    mean = sum((side * share for side, share in zip(wide, shares, strict=True)), start=torch.zeros_like(wide[0]))
    return [side - mean for side in wide]


def _consensus(stack: Stack, shares: Sequence[float], mean: LowRank) -> tuple[float, float]:
    distance = norm = 0.0
    for left, right, share in zip(stack.lefts, stack.rights, shares, strict=True):
        distance += share * squared_norm(torch.cat([left, -mean.left], dim=1), torch.cat([right, mean.right], dim=1))
        norm += share * squared_norm(left, right)
    return distance, norm


METHOD = Method(
    name="final_average",
    merge=final_average,
    kind="linear",
    summary="one average of decentralised workers, with their distance",
    formula="M = mean(B·A); reported: mean(B·A) − mean(B)·mean(A)",
    source="arXiv 2507.06542",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
)
