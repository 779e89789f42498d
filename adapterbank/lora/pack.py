"""Factors to rows of the layout and back."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterbank.lora.adapter import Factors
from adapterbank.lora.layout import ModuleShape


def pack(factors: Factors, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The rows ``[d_out + d_in, r]`` of one module, its scaling folded into B (gauge ``given``)."""
    B = factors.B.to(dtype) * factors.scaling if factors.scaling != 1.0 else factors.B.to(dtype)
    return torch.cat([B, factors.A.to(dtype).T])


def unpack(rows: Tensor, shape: ModuleShape) -> Factors:
    """Views of ``rows`` as the factors of ``shape``, scaling 1; ``A`` is the transpose of its rows."""
    return Factors(A=rows[shape.d_out :].T, B=rows[: shape.d_out], kind=shape.kind, kernel=shape.kernel)
