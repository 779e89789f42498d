"""MAP's surrogate of a metric (arXiv 2406.07529, eq. 5): a quadratic in the coefficients under a link function.

``f(c) = link(e + bᵀc + cᵀAc)``: (n+1)(n+2)/2 parameters. The authors fit by ``scipy.curve_fit`` from all ones; here the
identity is solved by least squares, and the other links start from the least squares of the unlinked values and go on by
Levenberg and Marquardt, which finds the same minimum without scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import UsageError

_MARGIN = 1e-3  # values are pulled this far inside a link's range before it is inverted for the start
_ROUNDS = 200
_DONE = 1e-15


@dataclass(frozen=True, slots=True)
class Link:
    """A monotone function, its inverse (of values inside its range) and its derivative."""

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


LINKS: Mapping[str, Link] = {
    "identity": Link(lambda q: q, lambda y: y, torch.ones_like),
    "sigmoid": Link(torch.sigmoid, lambda y: torch.logit(y, _MARGIN), lambda q: torch.sigmoid(q) * torch.sigmoid(-q)),
    "softplus": Link(torch.nn.functional.softplus, lambda y: torch.log(torch.expm1(y.clamp_min(_MARGIN))), torch.sigmoid),
}


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """A fitted metric. ``parameters [(n+1)(n+2)/2]``: e, then b, then the upper triangle of A row by row; float64."""

    parameters: Tensor
    link: Link

    def __call__(self, points: Tensor) -> Tensor:
        """The metric predicted at ``points [m, n]``, as ``[m]``."""
        return self.link.forward(quadratic_features(points) @ self.parameters)


def parameter_count(n: int) -> int:
    """The number of parameters of a quadratic in n variables; a fit needs as many points."""
    return (n + 1) * (n + 2) // 2


def quadratic_features(points: Tensor) -> Tensor:
    """1, every c_i and every product c_i·c_j with i ≤ j of ``points [m, n]``, as ``[m, (n+1)(n+2)/2]``."""
    rows, columns = torch.triu_indices(points.shape[1], points.shape[1])
    return torch.cat([torch.ones_like(points[:, :1]), points, points[:, rows] * points[:, columns]], dim=1)


def fit(points: Tensor, values: Tensor, link: str) -> Surrogate:
    """The least-squares surrogate of ``values [m]`` measured at ``points [m, n]``. Raises UsageError for too few points."""
    needed = parameter_count(points.shape[1])
    if points.shape[0] < needed:
        raise UsageError(
            f"a quadratic in {points.shape[1]} coefficients has {needed} parameters: got {points.shape[0]} samples, "
            f"expected at least {needed}",
            hint="evaluate more samples, or merge pairs at a time (variant nested)",
        )
    design, wanted, chosen = quadratic_features(points.double()), values.double(), LINKS[link]
    start: Tensor = torch.linalg.lstsq(design, chosen.inverse(wanted)[:, None], driver="gelsd").solution[:, 0]
    return Surrogate(start if link == "identity" else _levenberg_marquardt(design, wanted, start, chosen), chosen)


def _levenberg_marquardt(design: Tensor, wanted: Tensor, start: Tensor, link: Link) -> Tensor:
    """Minimise ‖link(design·x) − wanted‖² from ``start``; no step that makes it worse is taken."""
    x, damping = start, 1e-3
    error = link.forward(design @ x) - wanted
    for _ in range(_ROUNDS):
        jacobian = link.derivative(design @ x)[:, None] * design
        normal, slope = jacobian.T @ jacobian, jacobian.T @ error
        scale = normal.diagonal().clamp_min(1e-12)
        step = torch.linalg.solve(normal + damping * torch.diag(scale), slope)
        trial = link.forward(design @ (x - step)) - wanted
        before, after = float(error.square().sum()), float(trial.square().sum())
        if after <= before:
            x, error, damping = x - step, trial, max(damping / 10, 1e-15)
            if before - after <= _DONE * before:
                break
        else:
            damping *= 10
    return x
