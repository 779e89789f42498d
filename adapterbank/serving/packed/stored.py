"""Rows of numbers as they are resident: as a floating-point type, or as 8- or 4-bit integers with a scale for each row.

The scale of a row is its largest magnitude over the largest integer, rounded up to bfloat16 so that nothing is clipped by more
than half a step. Two 4-bit integers lie in a byte, the first one in its low half; a row of odd length ends with an empty half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapterbank.errors import UsageError

STORES = ("float32", "bfloat16", "float16", "int8", "int4")
_LARGEST = {"int8": 127, "int4": 7}


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Matrices ``[…, rows, rank]`` as ``values`` and, for integers, ``scales […, rows]`` bfloat16."""

    store: str
    rank: int
    values: Tensor
    scales: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor, store: str) -> Stored:
        """``rows […, rows, rank]`` as ``store``, rounded to the nearest. Raises UsageError for a store that does not exist."""
        rank = rows.shape[-1]
        if store not in STORES:
            raise UsageError(f"store {store!r}: expected one of {', '.join(STORES)}")
        if store not in _LARGEST:
            return cls(store, rank, rows.to(getattr(torch, store)).contiguous())
        largest = _LARGEST[store]
        scales = (
            _upwards(rows.abs().amax(dim=-1).float() / largest)
            if rank
            else rows.new_zeros(rows.shape[:-1], dtype=torch.bfloat16)
        )
        steps = torch.where(scales > 0, scales.float(), 1.0).unsqueeze(-1)
        codes = torch.round(rows.float() / steps).clamp(-largest, largest).to(torch.int8)
        return cls(store, rank, codes if store == "int8" else _paired(codes), scales)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def float(self) -> Tensor:
        """The numbers ``[…, rows, rank]`` as float32, exactly as every kernel sees them."""
        if self.scales is None:
            return self.values.float()
        codes = self.values if self.store == "int8" else _unpaired(self.values, self.rank)
        return codes.float() * self.scales.float().unsqueeze(-1)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Stored:
        """The same after ``move`` of every tensor: to a device, into pinned memory."""
        return replace(self, values=move(self.values), scales=None if self.scales is None else move(self.scales))


def _upwards(scales: Tensor) -> Tensor:
    """The smallest bfloat16 numbers that are not below."""
    near = scales.to(torch.bfloat16)
    above = torch.nextafter(near.float(), torch.full_like(scales, torch.inf)).view(torch.int32)
    next_up = ((above & ~0xFFFF) + 0x10000).view(torch.float32).to(torch.bfloat16)
    return torch.where(near.float() < scales, next_up, near)


def _paired(codes: Tensor) -> Tensor:
    if codes.shape[-1] % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    return ((codes[..., 0::2] & 0xF) | (codes[..., 1::2] << 4)).to(torch.uint8).contiguous()


def _unpaired(values: Tensor, rank: int) -> Tensor:
    signed = values.view(torch.int8)
    both = torch.stack([(signed << 4) >> 4, signed >> 4], dim=-1)
    return both.flatten(-2)[..., :rank]
