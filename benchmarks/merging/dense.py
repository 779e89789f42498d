"""What each way of merging means, on dense deltas in float32 and without a thought for memory: the check of the fast ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from adapterbank.merge.streams import kept, stream_key

Deltas = Iterable[Tensor]


def total(deltas: Deltas, names: Sequence[str], density: float) -> Tensor:
    """Σ ΔW_i."""
    result = torch.zeros(())
    for delta in deltas:
        result = result + delta
    return result


def ties(deltas: Deltas, names: Sequence[str], density: float) -> Tensor:
    """Trim to the largest, elect signs, average those that agree."""
    trimmed = []
    for delta in deltas:
        sizes = delta.abs()
        least = sizes.flatten().topk(int(density * delta.numel())).values[-1]
        trimmed.append(torch.where(sizes >= least, delta, 0.0))
    return _consensus(trimmed)


def dare_linear(deltas: Deltas, names: Sequence[str], density: float) -> Tensor:
    """Drop, rescale, add."""
    return total(_dropped(deltas, names, density), names, density)


def dare_ties(deltas: Deltas, names: Sequence[str], density: float) -> Tensor:
    """Drop, rescale, elect signs, average those that agree."""
    return _consensus(list(_dropped(deltas, names, density)))


def _dropped(deltas: Deltas, names: Sequence[str], density: float) -> Iterable[Tensor]:
    for delta, name in zip(deltas, names, strict=True):
        mask = kept(stream_key(0, name, "m"), 0, delta.numel(), density).view_as(delta)
        yield torch.where(mask, delta, 0.0) / density


def _consensus(tensors: Sequence[Tensor]) -> Tensor:
    elected = torch.zeros(())
    for tensor in tensors:
        elected = elected + tensor
    elected = elected.sign()
    sums, counts = torch.zeros_like(tensors[0]), torch.zeros_like(tensors[0])
    for tensor in tensors:
        agrees = (tensor.sign() == elected) & (elected != 0)
        sums += torch.where(agrees, tensor, 0.0)
        counts += agrees
    return sums / counts.clamp(min=1.0)


MERGES: Mapping[str, Callable[[Deltas, Sequence[str], float], Tensor]] = {
    "svd": total,
    "ties_svd": ties,
    "dare_linear_svd": dare_linear,
    "dare_ties_svd": dare_ties,
}
