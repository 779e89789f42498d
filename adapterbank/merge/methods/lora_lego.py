"""LoRA-LEGO (arXiv 2409.16167): the rank-one units of all adapters, clustered; one unit for each cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.kmeans import Draw, signed_kmeans
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.participants import nothing, total, weighted
from adapterbank.merge.streams import stream_key

LoraRank = Annotated[
    int, Hint("k, the number of clusters and the rank of the result; 0: the module's largest rank", at_least=0)
]
Inits = Annotated[int, Hint("how many times k-means starts; the best run counts", at_least=1)]


def lora_lego(inputs: Inputs, *, lora_rank: LoraRank = 0, n_init: Inits = 10) -> Pieces:
    """Units ``u = [b; a]`` (a column of ``w_i B_i``, a row of ``A_i``) are clustered by k-means; a cluster becomes its mean,
    rescaled to the mean ‖u‖∞ of its members; B is multiplied by ``√(N/k)`` for the N units.

    Ours: the weight and the scaling go into b, then ‖b‖ = ‖a‖ by rescaling, as both count alike in the distance, and u and
    −u, which mean the same, are one. With k = N the result is task_arithmetic; n copies of k units give √n times them. It
    depends on the gauge of the inputs. Starts are drawn from the seed and the module's name.
    """
    for stack in inputs:
        parts = weighted(stack)
        key = stream_key(stack.seed, "lora_lego", stack.module)
        yield Piece(stack.module, _merged(parts, lora_rank or stack.rank, n_init, _draws(key)) if parts else nothing(stack))


def _merged(parts: Sequence[LowRank], k: int, n_init: int, draw: Draw) -> LowRank:
    left, right = _balanced(total(parts))
    count = left.shape[1]
    k = min(k, count)
    found = signed_kmeans(left.T @ left + right.T @ right, k, draw, n_init=n_init)
    members = torch.nn.functional.one_hot(found.labels, k).to(left.dtype)
    means = members * found.signs.unsqueeze(1) / members.sum(dim=0)
    largest = members.T @ _largest(left, right) / members.sum(dim=0)
    left, right = left @ means, right @ means
    scale = largest / _largest(left, right)
    return LowRank(left * scale * (count / k) ** 0.5, right * scale)


def _balanced(units: LowRank) -> tuple[Tensor, Tensor]:
    """The rank-one terms with both sides of the same norm; those that are zero are left out."""
    left_norms, right_norms = units.left.norm(dim=0), units.right.norm(dim=0)
    kept = left_norms * right_norms > 0.0
    ratio = (right_norms[kept] / left_norms[kept]).sqrt()
    return units.left[:, kept] * ratio, units.right[:, kept] / ratio


def _largest(left: Tensor, right: Tensor) -> Tensor:
    """‖u‖∞ of every unit."""
    return torch.maximum(left.abs().amax(dim=0), right.abs().amax(dim=0))


def _draws(key: tuple[int, int]) -> Draw:
    """The stream of ``key`` as numbers in [0, 1): the upper 53 bits of each word."""
    philox = np.random.Philox(key=np.array(key, dtype=np.uint64))
    return lambda: (int(philox.random_raw()) >> 11) / 2.0**53


METHOD = Method(
    name="lora_lego",
    merge=lora_lego,
    kind="factors",
    summary="rank-one units of all adapters, clustered; one unit for each cluster",
    formula="M = √(N/k)·Σ_c b_c a_cᵀ, (b_c, a_c) the rescaled mean of a cluster of units",
    source="arXiv 2409.16167",
    laws={"itself": {}, "order": {}, "zero_weight": {}},
    keeps_rank=True,
)
