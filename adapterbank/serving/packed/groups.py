"""Rows in groups of 32: of a group first all of line 0, then all of line 1, and so on. So who reads a group of every line reads
one run of memory, and who reads one line reads 32 numbers next to each other."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 32


def grouped(lines: Tensor) -> Tensor:
    """``[groups, k, 32]`` of ``lines [k, rows]``; the last group is filled up with zeros."""
    filled = torch.nn.functional.pad(lines, (0, -lines.shape[1] % GROUP))
    return filled.view(len(lines), -1, GROUP).transpose(0, 1).contiguous()


def lines(groups: Tensor, first: int, rows: int) -> Tensor:
    """Row ``first``, with which a group begins, to ``first + rows`` of every line: ``[k, rows]``."""
    some = groups[first // GROUP : -(-(first + rows) // GROUP)]
    return some.transpose(0, 1).flatten(1)[:, :rows]
