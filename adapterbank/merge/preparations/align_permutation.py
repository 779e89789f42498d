"""Weight matching of rank units, the LoRA form of Git Re-Basin (arXiv 2209.04836): a signed permutation per adapter."""

from __future__ import annotations

from adapterbank.merge.alignment import align, balanced_units, by_permutation
from adapterbank.merge.preparation import Preparation
from adapterbank.merge.stack import Stack


def align_permutation(stack: Stack) -> Stack:
    """Balance each rank unit, then order and sign the units of every adapter like those of the medoid; ΔW stays the same.

    For methods that join factors (``linear_factors``, ``space=factors``). The assignment is exact. Units stay as they were
    trained, so the result depends on the gauge of the inputs; ``align_procrustes`` does not.
    """
    return align(stack, balanced_units, by_permutation)


PREPARATION = Preparation(
    name="align_permutation",
    prepare=align_permutation,
    summary="rank units matched one to one, with signs",
    formula="max over p of Σ_k ⟨b_k, b'_p(k)⟩·⟨a_k, a'_p(k)⟩",
    source="arXiv 2209.04836; on rank units: this package",
)
