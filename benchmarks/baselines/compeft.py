"""ComPEFT (arXiv 2311.13171): the signs of the largest entries and one scale, positions in a Golomb code.

The published method keeps the top k of the whole vector and tunes one α by task; here every factor has its own scale, the
least-squares one for its module, at 16 bits each, which is stronger. Positions: gaps in a Rice code with its best parameter, or
one bit an entry where that is shorter.
"""

from __future__ import annotations

from math import log, log2

import torch
from torch import Tensor

from adapterbank.lora.adapter import Factors
from benchmarks.baselines.collection import HALF, Collection, Form, half, mapped

_GOLDEN = (1 + 5**0.5) / 2


def compeft(collection: Collection, density: float, gauge: str = "given") -> Form:
    """Both factors of every module reduced to signs of the ``density`` largest entries."""
    stored = 0.0

    def one(factors: Factors) -> Factors:
        nonlocal stored
        A, B = _top(factors.A, density), _top(factors.B, density)
        stored += 2 * HALF + position_bits(A != 0) + position_bits(B != 0) + float(A.abs().sum() + B.abs().sum())
        return Factors(A, B * _scale(factors, A, B))

    return Form(tuple(mapped(adapter, one) for adapter in collection.in_gauge(gauge)), stored)


def position_bits(kept: Tensor) -> float:
    """Bits of the positions of the True entries: Rice code of the gaps between them, or a plain mask."""
    places = kept.flatten().nonzero().flatten()
    if not len(places):
        return 0.0
    gaps = torch.diff(places, prepend=places.new_tensor([-1])) - 1
    low = _parameter(len(places) / kept.numel())
    return min(float(kept.numel()), float((gaps >> low).sum()) + len(places) * (1 + low))


def _parameter(density: float) -> int:
    """The Rice parameter for gaps of independent entries (Kiely 2004, as in the paper)."""
    if density >= 1.0:
        return 0
    return max(0, 1 + int(log2(log(_GOLDEN - 1) / log(1.0 - density))))


def _top(values: Tensor, density: float) -> Tensor:
    count = max(1, round(density * values.numel()))
    threshold = values.abs().flatten().kthvalue(values.numel() - count + 1).values
    return torch.sign(values) * (values.abs() >= threshold)


def _scale(factors: Factors, A: Tensor, B: Tensor) -> Tensor:
    """The c with the least ‖ΔW − c·B·A‖, as two float16 scales would hold it."""
    inner = ((factors.B.T @ B) * (factors.A @ A.T)).sum()
    norm = ((B.T @ B) * (A @ A.T)).sum()
    return half(inner / norm.clamp_min(1e-300))
