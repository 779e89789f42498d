"""Concrete masks (arXiv 1611.00712): differentiable draws between 0 and 1."""

from __future__ import annotations

import torch
from torch import Tensor

_EDGE = 1e-6  # keeps the noise finite


def concrete(logits: Tensor, temperature: float, draw: torch.Generator) -> Tensor:
    """σ((logits + logistic noise) / temperature), same shape: the lower the temperature, the closer to 0 or 1."""
    uniform = torch.rand(logits.shape, generator=draw, dtype=logits.dtype).clamp(_EDGE, 1.0 - _EDGE)
    return torch.sigmoid((logits + torch.logit(uniform)) / temperature)


def rescaled(mask: Tensor) -> Tensor:
    """``mask`` over its mean, so that a mask of equal entries is all ones."""
    return mask / mask.mean()
