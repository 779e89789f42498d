"""LoRAQuant (arXiv 2510.26690): √S form, the leading components at 2 or 3 bits, the others as signs, in groups of 128.

The leading components of a module are the fewest that hold a share ρ of Σs². The paper's gradient steps for each component are
replaced by a search of every group's range and by least-squares gains for the components, which cost no bits (they multiply
the scales). Scales are counted, which the published 1.55 to 1.65 bits are not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapterbank.lora.adapter import Factors
from benchmarks.baselines.collection import HALF, Collection, Form, half, mapped
from benchmarks.baselines.rounding import joined, searched, split

GROUP = 128


def loraquant(collection: Collection, share: float, bits: int) -> Form:
    """``share`` is ρ, ``bits`` those of the leading components."""
    stored = 0.0

    def one(factors: Factors) -> Factors:
        nonlocal stored
        leading = _leading(factors, share)
        stored += sum(_size(side.shape[1], leading, len(side), bits) for side in (factors.A, factors.B.T))
        A, B = (_rounded(side, leading, bits) for side in (factors.A, factors.B.T))
        return _with_gains(factors, A, B.T)

    return Form(tuple(mapped(adapter, one) for adapter in collection.balanced), stored)


def _leading(factors: Factors, share: float) -> int:
    """How many components hold ``share`` of the energy: ‖b_k‖·‖a_k‖ = s_k."""
    energy = (factors.B.square().sum(dim=0) * factors.A.square().sum(dim=1)).cumsum(0)
    return int((energy < share * energy[-1]).sum()) + 1


def _size(length: int, leading: int, rank: int, bits: int) -> float:
    scales = HALF * -(-length // GROUP) * rank
    return scales + length * (bits * leading + (rank - leading))


def _rounded(rows: Tensor, leading: int, bits: int) -> Tensor:
    """``rows [r, d]``: the leading ones at ``bits``, the others ±mean|·| of their group."""
    upper = _by_row(rows[:leading], lambda groups: searched(groups, bits))
    return torch.cat([upper, _by_row(rows[leading:], _signs)])


def _by_row(rows: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    if not len(rows):
        return rows
    padded = -(-rows.shape[1] // GROUP) * GROUP
    wide = torch.nn.functional.pad(rows, (0, padded - rows.shape[1]))
    return joined(rounding(split(wide, GROUP)), wide)[:, : rows.shape[1]]


def _signs(groups: Tensor) -> Tensor:
    live = groups != 0.0
    mean = groups.abs().sum(dim=1, keepdim=True) / live.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.sign(groups) * half(mean)


def _with_gains(factors: Factors, A: Tensor, B: Tensor) -> Factors:
    """B with every component times the gain that leaves the least ‖ΔW − B·diag(g)·A‖."""
    gram = (B.T @ B) * (A @ A.T)
    right = ((B.T @ factors.B) * (A @ factors.A.T)).sum(dim=1)
    return Factors(A, B * torch.linalg.lstsq(gram, right.unsqueeze(1), driver="gelsd").solution.T)
