"""The k-th largest of more entries than fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_DIGIT = 16


def kth_largest(tiles: Callable[[], Iterable[Tensor]], k: int) -> float:
    """The k-th largest (from 1) of all non-negative float64 entries that each call of ``tiles`` goes through; exact.

    A radix selection over the bit patterns, which sort like the values: four passes with 2¹⁶ counters, whatever the size.
    """
    prefix = 0
    for shift in range(64 - _DIGIT, -1, -_DIGIT):
        counts = torch.zeros(1 << _DIGIT, dtype=torch.int64)
        for tile in tiles():
            bits = tile.reshape(-1).view(torch.int64)
            digits = bits[bits >> (shift + _DIGIT) == prefix] if prefix or shift + _DIGIT < 64 else bits
            counts += torch.bincount((digits >> shift) & ((1 << _DIGIT) - 1), minlength=1 << _DIGIT)
        larger = counts.flip(0).cumsum(0)  # larger[j]: how many have one of the j + 1 largest digits
        place = int(torch.searchsorted(larger, k))
        k -= int(larger[place - 1]) if place else 0
        prefix = prefix << _DIGIT | ((1 << _DIGIT) - 1 - place)
    return float(torch.tensor(prefix, dtype=torch.int64).view(torch.float64))
