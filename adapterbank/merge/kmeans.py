"""k-means of vectors whose sign is free, from their Gram matrix alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_SWEEPS = 300
Draw = Callable[[], float]
"""A number in [0, 1) at every call."""


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """Vector i is in cluster ``labels[i]``, turned by ``signs[i]`` (±1.0); ``inertia`` is the sum of squared distances."""

    labels: Tensor
    signs: Tensor
    inertia: float


def signed_kmeans(gram: Tensor, k: int, draw: Draw, *, n_init: int = 10) -> Clustering:
    """The best of ``n_init`` runs on the vectors with inner products ``gram [N, N]``, each vector taken up to its sign.

    A vector u joins the centre c where min(‖u − c‖², ‖u + c‖²) is least, and turns to the side that reaches it. Starts are
    k-means++ (Arthur and Vassilvitskii 2007) with numbers from ``draw``. Of equal runs the first wins. ``k`` is at most N;
    no cluster is empty.
    """
    runs = [_run(gram, _plus_plus(gram, k, draw)) for _ in range(n_init)]
    return min(runs, key=lambda run: run.inertia)


def _plus_plus(gram: Tensor, k: int, draw: Draw) -> list[int]:
    """Places of k vectors, each drawn with a probability that grows with its squared distance to those before."""
    chosen = [int(draw() * len(gram))]
    squares = gram.diagonal()
    while len(chosen) < k:
        apart = squares.unsqueeze(1) - 2.0 * gram[:, chosen].abs() + squares[chosen]
        mass = apart.amin(dim=1).clamp(min=0.0)
        mass[chosen] = 0.0
        if not bool(mass.any()):  # the rest are copies of chosen ones
            mass = torch.ones_like(mass)
            mass[chosen] = 0.0
        steps = mass.cumsum(dim=0)
        reached = int(torch.searchsorted(steps, float(steps[-1]) * draw(), right=True))
        chosen.append(min(reached, int(mass.nonzero()[-1])))  # a draw next to 1 may round up to the end
    return chosen


def _run(gram: Tensor, chosen: list[int]) -> Clustering:
    """Lloyd's iteration from the vectors at ``chosen``. Column c of ``means`` holds centre c as a combination of vectors."""
    k = len(chosen)
    means = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)[:, chosen]
    before: Tensor | None = None
    for _ in range(_SWEEPS):
        inner = gram @ means
        apart = gram.diagonal().unsqueeze(1) - 2.0 * inner.abs() + (means * inner).sum(dim=0)
        labels = _all_used(apart, k)
        signs = torch.where(_at(inner, labels) < 0.0, -1.0, 1.0).to(gram.dtype)
        members = torch.nn.functional.one_hot(labels, k).to(gram.dtype) * signs.unsqueeze(1)
        if before is not None and torch.equal(members, before):
            break
        means, before = members / members.abs().sum(dim=0), members
    return Clustering(labels, signs, float(_at(apart, labels).clamp(min=0.0).sum()))


def _at(table: Tensor, labels: Tensor) -> Tensor:
    """The entry of each row in the column that ``labels`` names."""
    return table.gather(1, labels.unsqueeze(1)).squeeze(1)


def _all_used(apart: Tensor, k: int) -> Tensor:
    """The nearest centre of each vector; an empty cluster takes the farthest vector of a cluster that has several."""
    labels = apart.argmin(dim=1)
    for empty in sorted(set(range(k)) - set(labels.tolist())):
        alone = torch.bincount(labels, minlength=k)[labels] == 1
        labels[int(_at(apart, labels).masked_fill(alone, -torch.inf).argmax())] = empty
    return labels
