"""The gauge: of all factors with the same ΔW, which ones are compared row by row.

(B·G, G⁻¹·A) is the same adapter for every invertible G, but other rows for RMM. A :class:`Frame` holds the two right factors
``[r, r]`` that turn a module's factors as they are stored into those of a gauge, scaling folded in: B ← B·frame.B and
Aᵀ ← Aᵀ·frame.A. Only the small frames are kept; rows are turned block by block when they are needed.

- ``given``: the factors as trained (arXiv 2510.14163), s folded into B.
- ``svd``: B = U√Σ, Aᵀ = V√Σ of ΔW = UΣVᵀ, √s on both sides; a function of ΔW alone.
- ``procrustes``: ``svd``, then each member is turned by an orthogonal matrix onto the mean of all (generalised Procrustes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import copysign, sqrt

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.linalg.procrustes import polar
from adapterbank.linalg.tall import r_factor
from adapterbank.lora.adapter import Factors

GAUGES = ("given", "svd", "procrustes")
_BLOCK = 16384  # rows turned at a time
_SWEEPS = 30
_EQUAL = 1e-6  # relative difference of squared norms under which members count as equal, so that rounding picks no reference
_GAIN = 1e-10  # relative gain of a sweep under which generalised Procrustes stops


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Right factors of one module of one adapter, float64: ``[r, r]``, or 0-dimensional for a multiple of the identity."""

    B: Tensor
    A: Tensor

    def turned(self, Q: Tensor) -> Frame:
        """This frame followed by the orthogonal ``Q [r, r]`` on both sides: the same ΔW."""
        return Frame(_times(self.B, Q), _times(self.A, Q))


def check_gauge(gauge: str) -> str:
    """Return ``gauge`` if there is such a one; raise UsageError naming those that exist."""
    if gauge not in GAUGES:
        raise UsageError(f"gauge {gauge!r} does not exist: expected one of {', '.join(GAUGES)}")
    return gauge


def frames(members: Sequence[Factors], gauge: str) -> list[Frame]:
    """The frames of one module of several adapters (equal shape and rank) in a gauge, in their order.

    ``given`` and ``svd`` look at each member alone; ``procrustes`` at all of them. Raises UsageError for an unknown gauge.
    """
    if check_gauge(gauge) == "given":
        return [_given(factors) for factors in members]
    balanced = [_balanced(factors) for factors in members]
    if gauge == "svd" or len(members) < 2:
        return [frame for frame, _ in balanced]
    largest = max(norm for _, norm in balanced)
    reference = next(i for i, (_, norm) in enumerate(balanced) if norm >= (1.0 - _EQUAL) * largest)
    return _generalised_procrustes(members, [frame for frame, _ in balanced], reference)


def frame_onto(factors: Factors, gauge: str, mean: Tensor) -> Frame:
    """The frame of one adapter relative to a frozen basis whose mean rows of this module are ``mean [d_out + d_in, r]``."""
    if check_gauge(gauge) == "given":
        return _given(factors)
    frame, _ = _balanced(factors)
    return frame if gauge == "svd" else frame.turned(polar(_cross(factors, frame, mean)))


def turned_rows(factors: Factors, frame: Frame, rows: slice) -> Tensor:
    """Rows of the module in the frame's gauge ``[len(rows), r]`` float64; B's ``d_out`` rows come first, then A's columns."""
    cut = factors.d_out
    start, stop, _ = rows.indices(cut + factors.d_in)
    upper = _times(factors.B[start : min(stop, cut)].double(), frame.B)
    if stop <= cut:
        return upper
    lower = _times(factors.A[:, max(start - cut, 0) : stop - cut].T.double(), frame.A)
    return lower if start >= cut else torch.cat([upper, lower])


def blocks(factors: Factors, frame: Frame) -> Iterator[tuple[slice, Tensor]]:
    """All rows of the module in the frame's gauge, block by block: where each block lies, and its rows."""
    for start in range(0, factors.d_out + factors.d_in, _BLOCK):
        rows = slice(start, min(start + _BLOCK, factors.d_out + factors.d_in))
        yield rows, turned_rows(factors, frame, rows)


def _given(factors: Factors) -> Frame:
    return Frame(torch.tensor(factors.scaling, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))


def _balanced(factors: Factors) -> tuple[Frame, float]:
    """The √Σ frame of one module, and ‖ΔW‖²_F.

    With B = Q_B·R_B, Aᵀ = Q_A·R_A and R_B·R_Aᵀ = UΣVᵀ: B·(R_Aᵀ·V·Σ^-½) = Q_B·U·Σ^½, so neither Q nor an inverse is needed.
    """
    s = factors.scaling
    R_B, R_A = r_factor(factors.B), r_factor(factors.A.T)
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
    noise = torch.finfo(torch.float64).eps * factors.rank * float(R_B.norm() * R_A.norm())
    scale = torch.where(noise < S, S, torch.inf).rsqrt()
    right_B, right_A = (R_A.T @ (Vh.T * scale)), (R_B.T @ (U * scale))
    sign = _signs(factors, right_B * copysign(1.0, s), right_A)
    half, pad = sqrt(abs(s)), (0, factors.rank - len(S))
    frame = Frame(
        torch.nn.functional.pad(right_B * (sign * copysign(half, s)), pad),
        torch.nn.functional.pad(right_A * (sign * half), pad),
    )
    return frame, float((s * S).square().sum())


def _signs(factors: Factors, right_B: Tensor, right_A: Tensor) -> Tensor:
    """The sign of each singular pair ``[k]``: Σ_j (1 + sin j)·x_j over its rows x, of U√Σ and then V√Σ, is not negative.

    A function of ΔW alone. The plain sum follows a common drift of the entries; sin j keeps vectors whose entries sum to
    zero from getting the sign of their rounding errors, as it keeps "the largest entry" from doing between equal entries.
    """
    weights = 1.0 + torch.arange(1, factors.d_out + factors.d_in + 1, dtype=torch.float64).sin()
    over_B, over_A = _weighted(weights[: factors.d_out], factors.B), _weighted(weights[factors.d_out :], factors.A.T)
    return torch.where(over_B @ right_B + over_A @ right_A < 0.0, -1.0, 1.0).double()


def _weighted(weights: Tensor, rows: Tensor) -> Tensor:
    """Σ_j weights[j]·rows[j] ``[r]``."""
    pairs = zip(torch.split(weights, _BLOCK), torch.split(rows, _BLOCK), strict=True)
    return torch.stack([w @ block.double() for w, block in pairs]).sum(dim=0)


def _generalised_procrustes(members: Sequence[Factors], start: list[Frame], reference: int) -> list[Frame]:
    """Turn every member onto the mean of all until the mean stops growing (Gower 1975).

    They are first turned onto the ``reference``: a mean of members that do not yet agree on anything is a poor start.
    """
    turned, length = start, 0.0
    mean = _mean([members[reference]], [start[reference]])
    for _ in range(_SWEEPS):
        turned = [frame.turned(polar(_cross(f, frame, mean))) for f, frame in zip(members, turned, strict=True)]
        mean = _mean(members, turned)
        before, length = length, float(mean.square().sum())
        if length - before <= _GAIN * length:
            break
    return turned


def _mean(members: Sequence[Factors], turned: Sequence[Frame]) -> Tensor:
    mean = torch.zeros(members[0].d_out + members[0].d_in, members[0].rank, dtype=torch.float64)
    for factors, frame in zip(members, turned, strict=True):
        for rows, block in blocks(factors, frame):
            mean[rows] += block / len(members)
    return mean


def _cross(factors: Factors, frame: Frame, mean: Tensor) -> Tensor:
    """XᵀM ``[r, r]`` of the module's rows X in the frame's gauge and rows M."""
    return torch.stack([block.T @ mean[rows].double() for rows, block in blocks(factors, frame)]).sum(dim=0)


def _times(rows: Tensor, right: Tensor) -> Tensor:
    return rows * right if right.ndim == 0 else rows @ right
