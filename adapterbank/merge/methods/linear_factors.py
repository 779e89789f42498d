"""The factors averaged apart ("separate merging" of arXiv 2510.14163): the control that shows what cross terms cost."""

from __future__ import annotations

import torch

from adapterbank.errors import IncompatibleError
from adapterbank.lora.delta import squared_norm
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.stack import Stack


def linear_factors(inputs: Inputs) -> Pieces:
    """``B = Σ w_i s_i B_i / Σ w_i``, ``A = Σ w_i A_i / Σ w_i``: their product has a term for every *pair* of adapters.

    Reports ``cross_term_error``, ‖BA − M‖/‖M‖ with ``M = Σ w_i ΔW_i / Σ w_i`` over all modules. The result depends on the
    gauge of the inputs. Raises IncompatibleError for unequal ranks, UsageError if the weights sum to zero.
    """
    for stack in inputs:
        shares = stack.shares("linear_factors")
        means = apart(stack, shares, "linear_factors")
        yield Piece(stack.module, means, {"cross_term_error": cross_terms(means, stack.combine(shares))})


def apart(stack: Stack, shares: list[float], method: str) -> LowRank:
    """``Σ shares·left`` and ``Σ shares·right``. Raises IncompatibleError, naming ``method``, for unequal ranks."""
    present = [i for i, left in enumerate(stack.lefts) if left.shape[1]]
    ranks = sorted({stack.lefts[i].shape[1] for i in present})
    if len(ranks) > 1:
        raise IncompatibleError(
            f"{method} adds factors entry by entry: module {stack.module!r} has the ranks {ranks}, expected equal ones",
            hint="svd merges adapters of any ranks",
        )
    left = sum((stack.lefts[i] * shares[i] for i in present[1:]), start=stack.lefts[present[0]] * shares[present[0]])
    right = sum((stack.rights[i] * shares[i] for i in present[1:]), start=stack.rights[present[0]] * shares[present[0]])
    return LowRank(left, right)


def cross_terms(means: LowRank, true: LowRank) -> tuple[float, float]:
    """‖means − true‖² through its QR core, and ‖true‖²."""
    difference = torch.cat([means.left, -true.left], dim=1), torch.cat([means.right, true.right], dim=1)
    return squared_norm(*difference), squared_norm(true.left, true.right)


METHOD = Method(
    name="linear_factors",
    merge=linear_factors,
    kind="factors",
    summary="the factors averaged apart: a control with cross terms",
    formula="M = (Σ w·s·B / Σ w)(Σ w·A / Σ w)",
    source='arXiv 2510.14163 ("separate merging")',
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}},
    keeps_rank=True,
)
