"""Matrices whose rows are vectors, quantized all in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adapterbank.codecs.components import Side
from adapterbank.codecs.quantize import quantize
from adapterbank.codecs.tables import SILENT
from adapterbank.codecs.trellis import Trellis


def quantized(wanted: Sequence[tuple[Tensor, Tensor, Tensor]], code: Trellis) -> list[Side]:
    """Quantize the rows of matrices ``[L, d]`` in Δ; with each, the weights of its rows' squared errors and their classes
    ``[L]``.
    """
    if not wanted:
        return []
    sizes = np.repeat([t.shape[1] for t, _, _ in wanted], [len(t) for t, _, _ in wanted])
    flat, weights, classes = (torch.cat([each[i].flatten() for each in wanted]) for i in range(3))
    found = quantize(flat, sizes, classes.numpy(), weights, code)
    sides, at = [], 0
    for t, _, own in wanted:
        k, q, points, bits = (v[at : at + t.numel()].view(t.shape) for v in (found.k, found.q, found.points, found.bits))
        side = Side(k, q, own, bits.sum(dim=1), points)
        sides.append(side.silent(own <= SILENT) if bool((own <= SILENT).any()) else side)
        at += t.numel()
    return sides
