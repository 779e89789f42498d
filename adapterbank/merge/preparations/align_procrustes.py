"""Rotation of the rank axis onto one adapter (orthogonal Procrustes, Schönemann 1966)."""

from __future__ import annotations

from adapterbank.merge.alignment import align, balanced_spectrum, by_rotation
from adapterbank.merge.preparation import Preparation
from adapterbank.merge.stack import Stack


def align_procrustes(stack: Stack) -> Stack:
    """Write every delta as ``(U√S)(V√S)ᵀ`` and rotate it onto the medoid's; ΔW stays the same.

    For methods that join factors (``linear_factors``, ``space=factors``). The result depends on the deltas alone: copies of an
    adapter in any gauge become equal factors.
    """
    return align(stack, balanced_spectrum, by_rotation)


PREPARATION = Preparation(
    name="align_procrustes",
    prepare=align_procrustes,
    summary="factors rotated onto the medoid's",
    formula="B'O, OᵀA' with O = polar(B'ᵀB + A'Aᵀ)",
    source="Schönemann 1966; arXiv 2209.04836 for the idea",
)
