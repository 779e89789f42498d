"""Elementwise work that numpy's vector loops do several times faster than torch's on a CPU; elsewhere it stays torch's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def tanh_(tensor: Tensor) -> Tensor:
    """``tensor``, its entries replaced by their hyperbolic tangents."""
    if tensor.device.type != "cpu":
        return tensor.tanh_()
    np.tanh(tensor.numpy(), out=tensor.numpy())
    return tensor


def exp_(tensor: Tensor) -> Tensor:
    """``tensor``, its entries replaced by their exponentials."""
    if tensor.device.type != "cpu":
        return tensor.exp_()
    with np.errstate(over="ignore", under="ignore"):  # as torch, which gives infinities and zeros without a word
        np.exp(tensor.numpy(), out=tensor.numpy())
    return tensor


def below(offsets: Tensor, end: int) -> Tensor:
    """Those of the integers ``offsets [N]`` that are in ``[0, end)``, in order."""
    if offsets.device.type != "cpu":
        return offsets[(offsets >= 0) & (offsets < end)]
    found = offsets.numpy()
    return torch.from_numpy(found[found.view(f"u{found.itemsize}") < end])
