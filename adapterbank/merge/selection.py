"""The k-th largest of more entries than fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from adapterbank.linalg.vectorized import below

_DIGIT = 16
_DIGITS = 1 << _DIGIT
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


class Selection:
    """A radix selection of the k-th largest (from 1) size of entries that are shown to it again in every pass; exact.

    The bit patterns of floats without their sign sort like the sizes, so 16 bits are settled by a pass with 2¹⁶ counters:
    two passes for float32, four for float64, whatever the number of entries. Zeros need not be shown.
    """

    def __init__(self, k: int, dtype: torch.dtype) -> None:
        self._k = k
        self._dtype = dtype
        self._shift = dtype.itemsize * 8 - _DIGIT
        self._prefix = 0  # of all settled bits

    @property
    def done(self) -> bool:
        return self._shift < 0

    @property
    def value(self) -> float:
        """The k-th largest size, once :attr:`done`."""
        return float(torch.tensor(self._prefix, dtype=_INTEGERS[self._dtype]).view(self._dtype))

    @property
    def settled(self) -> tuple[int, int]:
        """What :meth:`digits` depends on: the settled bits, and how many are not."""
        return self._prefix, self._shift

    def digits(self, tile: Tensor) -> Tensor:
        """The next 16 bits of the entries of ``tile`` that have the settled ones; the tile is not changed."""
        bits = tile.to(self._dtype).abs().view(-1).view(_INTEGERS[self._dtype])
        if self._shift + _DIGIT < self._dtype.itemsize * 8:
            bits = below(bits.sub_(self._prefix << self._shift + _DIGIT), 1 << self._shift + _DIGIT)
        return bits.bitwise_right_shift_(self._shift)

    def settle(self, counts: Tensor) -> None:
        """End a pass with how many of its :meth:`digits` have each value."""
        larger = counts.flip(0).cumsum(0)  # larger[j]: how many have one of the j + 1 largest digits
        place = min(int(torch.searchsorted(larger, self._k)), _DIGITS - 1)  # beyond all: among the zeros not shown
        self._k -= int(larger[place - 1]) if place else 0
        self._prefix = self._prefix << _DIGIT | (_DIGITS - 1 - place)
        self._shift -= _DIGIT


def no_counts() -> Tensor:
    """The counters of a pass before it, ``[2¹⁶]``."""
    return torch.zeros(_DIGITS, dtype=torch.int64)


def counted(digits: Iterable[Tensor]) -> Tensor:
    """How many of all these digits have each value, ``[2¹⁶]``."""
    return torch.bincount(torch.cat(list(digits)), minlength=_DIGITS).cpu()


def kth_largest(tiles: Callable[[], Iterable[Tensor]], k: int, dtype: torch.dtype = torch.float64) -> float:
    """The k-th largest size (from 1) of all entries of ``dtype`` that each call of ``tiles`` goes through; exact."""
    selection = Selection(k, dtype)
    while not selection.done:
        counts = no_counts()
        for tile in tiles():
            counts += counted([selection.digits(tile)])
        selection.settle(counts)
    return selection.value
