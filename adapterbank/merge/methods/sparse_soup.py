"""Sparse model soups (arXiv 2306.16788): models retrained from one pruned model share its mask, and so does their average."""

from __future__ import annotations

from adapterbank.errors import IncompatibleError
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.methods.linear_factors import apart, cross_terms
from adapterbank.merge.stack import Stack


def sparse_soup(inputs: Inputs) -> Pieces:
    """``B = Σ w_i s_i B_i / Σ w_i``, ``A = Σ w_i A_i / Σ w_i``, only for adapters with equal zero patterns of A and of B.

    Every zero of the inputs is a zero of the output, as long as it keeps its own rank. Reports ``cross_term_error``, the
    distance from the average of the deltas, which copies retrained from one start keep small. The authors' code takes the mask
    of the last model unseen; here IncompatibleError names the first module and adapter whose pattern differs.
    """
    for stack in inputs:
        _check(stack)
        shares = stack.shares("sparse_soup")
        mean = apart(stack, shares, "sparse_soup")
        yield Piece(stack.module, mean, {"cross_term_error": cross_terms(mean, stack.combine(shares))})


def _check(stack: Stack) -> None:
    for side, factors in (("lora_B", stack.lefts), ("lora_A", stack.rights)):
        for name, other in zip(stack.names[1:], factors[1:], strict=True):
            if other.shape != factors[0].shape:
                what = f"rank {other.shape[1]} against {factors[0].shape[1]}"
            elif differing := int(((other == 0.0) != (factors[0] == 0.0)).sum()):
                what = f"{differing} of {other.numel()} entries of {side} are zero in only one of them"
            else:
                continue
            raise IncompatibleError(
                f"sparse_soup: adapters {stack.names[0][:12]} and {name[:12]} share no mask in {stack.module!r}: {what}",
                hint="linear_factors and average take any adapters",
            )


METHOD = Method(
    name="sparse_soup",
    merge=sparse_soup,
    kind="factors",
    summary="average of pruned factors that share one mask",
    formula="M = (Σ w·s·B / Σ w)(Σ w·A / Σ w), supp B_i = supp B, supp A_i = supp A",
    source="arXiv 2306.16788",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}},
    keeps_rank=True,
)
