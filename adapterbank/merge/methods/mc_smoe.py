"""MC-SMoE (arXiv 2310.01334): experts aligned and averaged by frequency, then a low rank and a few whole rows.

From the authors: alignment by weight matching, usage frequencies as weights, W ≈ U V + S with a structured sparse S. Theirs is
trained with distillation and ranks what S keeps by gradients; this is the data-free form, which ranks by row norm.
"""

from __future__ import annotations

from typing import Annotated

import torch

from adapterbank.merge.alignment import align, balanced_units, by_permutation
from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.methods.linear_factors import apart
from adapterbank.merge.options import Hint

LowRankFactor = Annotated[int, Hint("k, rank of the dense part; 0: half of the largest input rank", above=-1)]
Rows = Annotated[int, Hint("m, rows of the residual that are kept whole; 0: what is left of the largest input rank", above=-1)]


def mc_smoe(inputs: Inputs, *, low_rank_factor: LowRankFactor = 0, rows: Rows = 0) -> Pieces:
    """Rank units of all adapters matched to the medoid's, ``W = (Σ f B)(Σ f A)``, ``M = [W]_k + rows m of W − [W]_k``.

    A residual of m rows is exactly m more rank units whose columns of B are unit vectors, so M stays a plain LoRA of rank
    k + m. Kept are the rows of largest norm. By Eckart-Young an SVD of rank k + m is never farther from W in the Frobenius
    norm: this form is for what single rows carry beyond their norm. Reports ``residual_rows``, the part of W that is lost.
    """
    for stack in inputs:
        aligned = align(stack, balanced_units, by_permutation)
        mean = apart(aligned, aligned.shares("mc_smoe"), "mc_smoe")
        k = low_rank_factor or (stack.rank + 1) // 2
        matrix, lost = _compressed(mean, k, rows or max(0, stack.rank - k))
        yield Piece(stack.module, matrix, {"residual_rows": lost})


def _compressed(mean: LowRank, k: int, rows: int) -> tuple[LowRank, tuple[float, float]]:
    U, S, V = svd(mean)
    norms = (U[:, k:] * S[k:]).square().sum(dim=1)  # of the residual's rows, squared
    kept = norms.sort(descending=True, stable=True).indices[:rows].sort().values
    unit = torch.nn.functional.one_hot(kept, len(U)).T.to(U)
    residual = V[:, k:] @ (U[kept, k:] * S[k:]).T
    roots = S[:k].sqrt()
    matrix = LowRank(torch.cat([U[:, :k] * roots, unit], dim=1), torch.cat([V[:, :k] * roots, residual], dim=1))
    return matrix, (float(norms.sum() - norms[kept].sum()), float(S.square().sum()))


METHOD = Method(
    name="mc_smoe",
    merge=mc_smoe,
    kind="factors",
    summary="aligned factors averaged, then a low rank and whole rows of the rest",
    formula="M = [W]_k + E_m E_mᵀ (W − [W]_k), W = (Σ f·B)(Σ f·A) aligned",
    source="arXiv 2310.01334 (its data-free form)",
    laws={"itself": {"low_rank_factor": 99}, "copies": {"low_rank_factor": 99}, "order": {}, "zero_weight": {}},
    keeps_rank=True,
)
