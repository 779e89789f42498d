"""RTVQ, residual task vector quantization (arXiv 2503.06921): the mean at a few bits, then every adapter's offset from the
*quantized* mean at a few bits, asymmetric min–max; and TVQ, every adapter alone."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterbank.lora.adapter import Factors
from benchmarks.baselines.collection import HALF, Collection, Form, assembled
from benchmarks.baselines.rounding import GROUP, joined, minmax, split


def rtvq(collection: Collection, base_bits: int, offset_bits: int, gauge: str = "given", per: str = "tensor") -> Form:
    """``base_bits`` for the mean (0: none is stored, TVQ), ``offset_bits`` for the rest; ``per``: ``tensor`` or ``group``."""
    adapters = collection.in_gauge(gauge)
    found: dict[str, list[Factors]] = {}
    stored = 0.0
    for name in collection.modules:
        members = [adapter.modules[name] for adapter in adapters]
        (A, bits_A), (B, bits_B) = (
            _side(torch.stack(side), base_bits, offset_bits, per) for side in ([f.A for f in members], [f.B for f in members])
        )
        stored += bits_A + bits_B
        found[name] = [Factors(of_A, of_B) for of_A, of_B in zip(A, B, strict=True)]
    return Form(assembled(found), stored)


def _side(stack: Tensor, base_bits: int, offset_bits: int, per: str) -> tuple[Tensor, float]:
    """The stack ``[n, …]`` as it comes back, and its bits."""
    base, stored = stack.new_zeros(stack.shape[1:]), 0.0
    if base_bits:
        base, stored = _rounded(stack.mean(dim=0), base_bits, per)
    rounded = [_rounded(values - base, offset_bits, per) for values in stack]
    return torch.stack([base + values for values, _ in rounded]), stored + sum(bits for _, bits in rounded)


def _rounded(values: Tensor, bits: int, per: str) -> tuple[Tensor, float]:
    groups = split(values, GROUP if per == "group" else values.numel())
    return joined(minmax(groups, bits), values), bits * values.numel() + 2 * HALF * len(groups)
