"""What a method sees of one module: each adapter's delta as ``left @ rightᵀ``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.merge.core import LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """One module of n adapters: ``ΔW_i = lefts[i] @ rights[i].T``, the scaling folded into ``lefts`` once.

    ``lefts[i]`` is ``[d_out, r_i]`` and ``rights[i]`` ``[d_in, r_i]``, float64. ``names`` are the adapters' content digests,
    ``weights`` theirs in this module. An adapter without this module has ``r_i = 0`` (its delta is zero), or is left out of
    the stack altogether. ``rank`` is the largest ``r_i`` of the merge; ``seed`` is for methods that draw.
    ``members`` are the adapters' places in the whole merge. ``precision`` is that in which dense entries are computed:
    float32 where all factors came in float32 or less, else float64.
    """

    module: str
    names: tuple[str, ...]
    weights: tuple[float, ...]
    lefts: tuple[Tensor, ...]
    rights: tuple[Tensor, ...]
    rank: int
    seed: int
    members: tuple[int, ...]
    precision: torch.dtype = torch.float64

    def __len__(self) -> int:
        return len(self.lefts)

    @property
    def d_out(self) -> int:
        return int(self.lefts[0].shape[0])

    @property
    def d_in(self) -> int:
        return int(self.rights[0].shape[0])

    def rows(self, index: int, rows: slice, out: Tensor | None = None) -> Tensor:
        """The rows ``[rows, d_in]`` of adapter ``index``'s dense ΔW, written to ``out`` if it is given."""
        return torch.mm(self.lefts[index][rows], self.rights[index].T, out=out)

    def shares(self, method: str) -> list[float]:
        """The weights over their sum. Raises UsageError, naming ``method``, if that is 0."""
        total = sum(self.weights)
        if total == 0.0:
            message = f"{method}: the weights {list(self.weights)} of module {self.module!r} sum to 0"
            raise UsageError(message, hint="use task_arithmetic to subtract")
        return [weight / total for weight in self.weights]

    def combine(self, coefficients: Sequence[float] | None = None) -> LowRank:
        """``Σ_i coefficients[i]·ΔW_i``, exact: the factors side by side; by default with the weights."""
        scaled = [left * c for left, c in zip(self.lefts, self.weights if coefficients is None else coefficients, strict=True)]
        return LowRank(torch.cat(scaled, dim=1), torch.cat(self.rights, dim=1))
