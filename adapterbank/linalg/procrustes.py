"""The orthogonal Procrustes problem."""

from __future__ import annotations

import torch
from torch import Tensor


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal polar factor ``[r, r]`` in float64.

    Of all orthogonal Q it maximises ⟨Q, matrix⟩; with ``matrix`` = XᵀM it minimises ‖XQ − M‖ (Schönemann 1966).
    """
    U, _, Vh = torch.linalg.svd(matrix.double())
    factor: Tensor = U @ Vh
    return factor
