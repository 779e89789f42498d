"""Codes of mixed width as bit planes in 32-bit words: one matrix ``[groups, pitch]`` for each side of a module.

A group is 32 rows; row j is bit j mod 32 of the words of group j div 32. A group has one word for every plane of every
component, in order of components and, within one, from the lowest bit up; ``pitch`` is their number, the sum of the widths.
So a tile of rows of all components is one contiguous run of words.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GROUP = 32  # rows in a word


def groups(rows: int) -> int:
    """How many groups hold ``rows`` rows; the last one is filled up with zero bits."""
    return -(-rows // GROUP)


def pack(codes: Tensor, widths: Tensor) -> Tensor:
    """Words ``[groups, pitch]`` int32 of ``codes [k, rows]``, integers below 2^width, with ``widths [k]`` bits each."""
    component = np.repeat(np.arange(len(widths)), widths.numpy())
    plane = np.arange(len(component)) - _starts(widths).numpy()[component]
    bits = np.zeros((len(component), groups(codes.shape[1]) * GROUP), dtype=np.uint8)
    bits[:, : codes.shape[1]] = (codes.to(torch.uint8).numpy()[component] >> plane[:, None].astype(np.uint8)) & 1
    words = np.packbits(bits, axis=1, bitorder="little").view("<u4").T
    return torch.from_numpy(np.ascontiguousarray(words).astype(np.uint32, copy=False).view(np.int32))


def unpack(words: Tensor, widths: Tensor, rows: int) -> Tensor:
    """Codes ``[k, rows]`` int32 of ``words [groups, pitch]``, on the words' device: the specification of a kernel."""
    starts, lanes = _starts(widths), torch.arange(GROUP, dtype=torch.int32, device=words.device)
    codes = torch.zeros(len(widths), len(words), GROUP, dtype=torch.int32, device=words.device)
    for plane in range(int(widths.max()) if len(widths) else 0):
        (has,) = torch.nonzero(widths > plane, as_tuple=True)
        codes[has] |= ((words[:, starts[has] + plane].T.unsqueeze(-1) >> lanes) & 1) << plane
    return codes.flatten(1)[:, :rows]


def values(codes: Tensor, widths: Tensor, scales: Tensor) -> Tensor:
    """``(2q − (2^width − 1)) · scale`` ``[k, rows]`` float32 of ``codes`` q and bfloat16 ``scales [k]``.

    Exact: an integer of at most 8 bits times a significand of 8 bits fits a float32, so there is nothing to round.
    """
    odd = 2 * codes - ((1 << widths.to(torch.int32)) - 1).unsqueeze(1)
    return odd.to(torch.float32) * scales.to(torch.float32).unsqueeze(1)


def _starts(widths: Tensor) -> Tensor:
    wide = widths.to(torch.int64)
    return wide.cumsum(0) - wide
