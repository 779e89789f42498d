"""Frank–Wolfe on coefficients: the set is a simplex per column (or one for all columns), its corners the adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Trace = list[tuple[float, float]]
Slope = tuple[float, Tensor]  # an objective and its gradient [n, L]
Gradients = Callable[[Tensor], Sequence[Slope]]  # of each task, at the coefficients [n, L]


@dataclass(frozen=True, slots=True)
class Simplex:
    """Coefficients ``c ≥ 0`` of sum ``scale`` in every column; not ``by_layer``, all columns are the same."""

    scale: float = 1.0
    by_layer: bool = True

    def corner(self, gradient: Tensor, taken: Tensor | None = None) -> Tensor:
        """The corner ``[n, L]`` with the smallest inner product with ``gradient``, never one of ``taken`` (bool ``[n, L]``)."""
        slopes = gradient if self.by_layer else gradient.sum(dim=1, keepdim=True).expand_as(gradient)
        free = slopes if taken is None else slopes.masked_fill(taken, float("inf"))
        return torch.zeros_like(gradient).scatter_(0, free.argmin(dim=0, keepdim=True), self.scale)

    def gap(self, coefficients: Tensor, gradient: Tensor) -> float:
        """⟨g, c − corner⟩ ≥ 0. For a convex objective it bounds how far above its minimum over the set c is."""
        return float((gradient * (coefficients - self.corner(gradient))).sum())

    def distinct_corners(self, gradients: Sequence[Tensor]) -> Tensor:
        """The best corner of each gradient that no gradient before it took, ``[T, n, L]``; at most n of them."""
        taken = torch.zeros_like(gradients[0], dtype=torch.bool)
        corners = []
        for gradient in gradients[: gradients[0].shape[0]]:
            corners.append(self.corner(gradient, taken))
            taken = taken | (corners[-1] > 0.0)
        return torch.stack(corners)


def mean(slopes: Sequence[Slope]) -> Slope:
    """Mean objective and mean gradient."""
    return sum(value for value, _ in slopes) / len(slopes), torch.stack([slope for _, slope in slopes]).mean(dim=0)


def open_loop(step: int) -> float:
    """γ_t = 2/(t + 2) for t = 0, 1, …: no objective is evaluated to find it."""
    return 2.0 / (step + 2.0)


def towards(current: Tensor, corners: Tensor, lengths: Tensor) -> Tensor:
    """``c + Σ_t a_tl·(corner_t − c)`` for ``corners [T, n, L]``, the ``lengths [T, L]`` cut to a ≥ 0 with a sum of at most 1.

    So it is a mean of c and corners, and stays in the set.
    """
    steps = lengths.clamp_min(0.0)
    steps = steps / steps.sum(dim=0, keepdim=True).clamp_min(1.0)
    return current + (steps[:, None] * (corners - current)).sum(dim=0)


def walk(
    gradients: Gradients,
    move: Callable[[int, Tensor, Sequence[Slope]], Tensor],
    start: Tensor,
    steps: int,
    simplex: Simplex,
    tolerance: float = 0.0,
) -> tuple[Tensor, Trace]:
    """The iterate with the smallest mean objective, and the trace (objective, gap) of every iterate, the last included.

    ``move(t, c, slopes)`` gives the next coefficients. Stops when the gap is at most ``tolerance``.
    """
    current, best, lowest = start, start, float("inf")
    trace: Trace = []
    for step in range(steps + 1):
        slopes = gradients(current)
        value, slope = mean(slopes)
        trace.append((value, simplex.gap(current, slope)))
        if value < lowest:
            best, lowest = current, value
        if trace[-1][1] <= tolerance or step == steps:
            break
        current = move(step, current, slopes)
    return best, trace


def hard_move(simplex: Simplex, step_size: float = 1.0) -> Callable[[int, Tensor, Sequence[Slope]], Tensor]:
    """``step_size``·2/(t+2) of the way to the one corner that the mean gradient wants."""

    def move(step: int, current: Tensor, slopes: Sequence[Slope]) -> Tensor:
        return torch.lerp(current, simplex.corner(mean(slopes)[1]), step_size * open_loop(step))

    return move
