"""Σ w_i·ΔW_i written into a buffer: exactly, side by side along the rank axis, or cut to the buffer's rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.delta import relative
from adapterbank.serving import kernels
from adapterbank.serving.kernels.reference import Packed, Window
from adapterbank.serving.slots import SlotLayout


def check(weights: Mapping[str, float]) -> None:
    """UsageError unless there are weights, all of them finite numbers."""
    if not isinstance(weights, Mapping) or not weights:
        raise UsageError("nothing to blend: expected at least one adapter with its weight, as {'a@1': 0.7, 'b@2': 0.3}")
    for ref, weight in weights.items():
        if not isinstance(weight, Real) or not isfinite(weight):
            raise UsageError(f"weight of {ref}: got {weight!r}, expected a finite number")


def side_by_side(
    adapters: Sequence[Packed], weights: Sequence[float], out: Tensor, ranks: Sequence[int], *, backend: str
) -> None:
    """Write all of them into ``out``, adapter i into ``ranks[i]`` columns of every place, the last one into all that are left.

    Raises IncompatibleError if a place has fewer columns than that.
    """
    layout = adapters[0].layout
    least = min((place.whole.rank for place in layout), default=0)
    if sum(ranks) > least:
        raise IncompatibleError(
            f"{len(adapters)} adapters of the ranks {list(ranks)} need {sum(ranks)} columns, the buffer has {least}",
            hint="serve with a larger rank, or give the blend a rank to be cut to",
        )
    starts = [sum(ranks[:i]) for i in range(len(ranks))]
    last = len(ranks) - 1
    windows = [
        Window(start, None if i == last else ranks[i], weight)
        for i, (start, weight) in enumerate(zip(starts, weights, strict=True))
    ]
    for adapter, window in zip(adapters, windows, strict=True):
        kernels.write([adapter], [out], [window], backend=backend)


def cut(adapters: Sequence[Packed], weights: Sequence[float], out: Tensor) -> float:
    """Write the best approximation of the sum that the rank of each place allows; what that loses, relative over all modules.

    Through two thin QRs and the SVD of a core (Eckart-Young), in float64 on the CPU.
    """
    layout = adapters[0].layout
    layout.check(out)
    lost = whole = 0.0
    for index, place in enumerate(layout):
        left, right = _stacked(adapters, weights, layout, index)
        block = torch.zeros(place.shape.rows, place.whole.rank, dtype=torch.float64)
        Q_left, R_left = torch.linalg.qr(left)
        Q_right, R_right = torch.linalg.qr(right)
        U, S, Vh = torch.linalg.svd(R_left @ R_right.T)
        keep = min(place.whole.rank, len(S))
        roots = S[:keep].sqrt()
        block[: place.shape.d_out, :keep] = Q_left @ (U[:, :keep] * roots)
        block[place.shape.d_out :, :keep] = Q_right @ (Vh[:keep].T * roots)
        out[place.offset : place.offset + place.size] = block.flatten().to(out.device, out.dtype)
        lost, whole = lost + float(S[keep:].square().sum()), whole + float(S.square().sum())
    return relative(lost, whole)


def _stacked(adapters: Sequence[Packed], weights: Sequence[float], layout: SlotLayout, index: int) -> tuple[Tensor, Tensor]:
    d_out = layout.places[index].shape.d_out
    rows = [
        (each, weight) for adapter, weight in zip(adapters, weights, strict=True) if (each := adapter.rows(index)) is not None
    ]
    if not rows:
        shape = layout.places[index].shape
        return torch.zeros(shape.d_out, 1, dtype=torch.float64), torch.zeros(shape.d_in, 1, dtype=torch.float64)
    left = torch.cat([each[:d_out].cpu().double() * weight for each, weight in rows], dim=1)
    return left, torch.cat([each[d_out:].cpu().double() for each, _ in rows], dim=1)
