"""Rounding to nearest in groups or rows with one float16 scale each: int8 … int2, nf4 (QLoRA, arXiv 2305.14314), ternary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.baselines.collection import HALF, Collection, Form, half, mapped

GROUP = 64
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_CLIPS = tuple(k / 20 for k in range(6, 21))  # shares of the largest magnitude among which the best range is searched


def integers(collection: Collection, bits: int, gauge: str = "given", scheme: str = "absmax", per: str = "group") -> Form:
    """Both factors as ``bits``-bit integers.

    ``scheme``: ``absmax`` (symmetric, one scale), ``minmax`` (one scale and one offset), ``search`` (symmetric, the range with
    the least squared error). ``per``: ``group`` of 64 numbers of a factor in its order, or ``component`` (a row of A, a
    column of B).
    """
    rounding = {"absmax": absmax, "minmax": minmax, "search": searched}[scheme]
    return _coded(collection.in_gauge(gauge), lambda groups: rounding(groups, bits), bits, 1 + (scheme == "minmax"), per)


def nf4(collection: Collection, gauge: str = "given") -> Form:
    """Both factors as 4-bit normal floats in groups of 64."""
    return _coded(collection.in_gauge(gauge), _normal_floats, 4, 1, "group")


def absmax(groups: Tensor, bits: int) -> Tensor:
    """Rows of ``groups`` on 2^bits − 1 symmetric levels up to the largest magnitude."""
    return _symmetric(groups, groups.abs().amax(dim=1, keepdim=True), bits)


def searched(groups: Tensor, bits: int) -> Tensor:
    """As :func:`absmax`, with the range, a share of the largest magnitude, that leaves the least squared error."""
    largest = groups.abs().amax(dim=1, keepdim=True)
    best = _symmetric(groups, largest, bits)
    for clip in _CLIPS:
        found = _symmetric(groups, clip * largest, bits)
        better = (found - groups).square().sum(dim=1) < (best - groups).square().sum(dim=1)
        best = torch.where(better.unsqueeze(1), found, best)
    return best


def minmax(groups: Tensor, bits: int) -> Tensor:
    """Rows of ``groups`` on 2^bits levels from the smallest to the largest value."""
    levels = 2**bits - 1
    low = half(groups.amin(dim=1, keepdim=True))
    step = half((groups.amax(dim=1, keepdim=True) - low) / levels).clamp_min(1e-12)
    return ((groups - low) / step).round().clamp(0, levels) * step + low


def split(values: Tensor, size: int) -> Tensor:
    """``values`` in its order as rows of ``size``, the last filled up with zeros."""
    flat = values.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


def joined(groups: Tensor, like: Tensor) -> Tensor:
    """:func:`split` undone, in the shape of ``like``."""
    return groups.flatten()[: like.numel()].view(like.shape)


def _coded(adapters: tuple[Adapter, ...], rounding: Callable[[Tensor], Tensor], bits: int, constants: int, per: str) -> Form:
    """``constants`` float16 numbers are stored for each group."""
    stored = 0.0

    def one(values: Tensor) -> Tensor:
        nonlocal stored
        groups = split(values, GROUP) if per == "group" else values
        stored += bits * values.numel() + constants * HALF * len(groups)
        return joined(rounding(groups), values) if per == "group" else rounding(groups)

    def both(factors: Factors) -> Factors:
        B = one(factors.B) if per == "group" else one(factors.B.T.contiguous()).T
        return Factors(one(factors.A), B)

    return Form(tuple(mapped(adapter, both) for adapter in adapters), stored)


def _symmetric(groups: Tensor, largest: Tensor, bits: int) -> Tensor:
    levels = 2 ** (bits - 1) - 1
    step = half(largest / levels).clamp_min(1e-12)
    return (groups / step).round().clamp(-levels, levels) * step


def _normal_floats(groups: Tensor) -> Tensor:
    scale = half(groups.abs().amax(dim=1, keepdim=True)).clamp_min(1e-12)
    codes = torch.tensor(NF4, dtype=groups.dtype)
    between = (codes[1:] + codes[:-1]) / 2
    return codes[torch.bucketize((groups / scale).contiguous(), between)] * scale
