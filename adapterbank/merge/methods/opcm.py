"""OPCM (arXiv 2501.09522): one adapter after the other, each cleaned of what the merge so far already says.

From the authors: the projection, α = 0.5, the rescaling to the mean norm. Ours: the thin form. Their code also zeroes the
diagonal of the projection in the null space of the merge, where its basis is arbitrary; here only directions that the merge
really has are touched. And ranks would grow with every adapter, so each step is cut to ``k_max``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Annotated

import torch

from adapterbank.lora.delta import relative, squared_norm
from adapterbank.merge.core import LowRank, refactor, svd
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint

Alpha = Annotated[float, Hint("α: the leading directions that hold this share of Σ σ are kept clear", above=0.0, at_most=1.0)]
KMax = Annotated[int, Hint("rank to which each step is cut; 0: the largest input rank so far", above=-1)]
Deltas = Mapping[str, LowRank]


@dataclass(frozen=True, slots=True)
class State:
    """What a merge must remember beside its own ΔW to take one more adapter: constant size, whatever came before.

    ``count`` adapters so far, their mean norm ``mean_norm`` = mean ‖ΔW_s‖ over all modules, and λ of the last step. The same
    numbers are among the facts of every module.
    """

    count: int = 0
    mean_norm: float = 0.0
    lam: float = 1.0

    def facts(self) -> dict[str, float]:
        """As numbers for a report."""
        return {"count": float(self.count), "mean_norm": self.mean_norm, "lam": self.lam}

    @classmethod
    def of(cls, facts: Mapping[str, float]) -> State:
        """The state in a module's facts."""
        return cls(int(facts["count"]), float(facts["mean_norm"]), float(facts["lam"]))


@dataclass(frozen=True, slots=True)
class Step:
    """The merge after one more adapter, each delta balanced, and what its cut lost: (squared error, squared norm) by module."""

    merged: Deltas
    state: State
    cuts: Mapping[str, tuple[float, float]]


def opcm(inputs: Inputs, *, alpha: Alpha = 0.5, k_max: KMax = 0) -> Pieces:
    """``M_t = (λ_{t−1} M_{t−1} + τ̃_t) / λ_t`` in the order given, τ_t = w_t ΔW_t, λ_t such that ‖M_t‖ = mean_{s≤t} ‖τ_s‖.

    With M = U S Vᵀ and P = Uᵀ τ V, τ̃ is τ without the leading r_a × r_a block of P and without its diagonal; r_a counts the
    leading singular values whose sum stays within α Σ σ. So ⟨τ̃, M⟩ = 0. The first adapter is taken as it is, one whose ΔW is
    zero changes nothing. Norms are over the whole model. Reports ``truncated``, what the last cut to k_max lost. The facts of
    a module hold the state from which :func:`~adapterbank.merge.extend.extend` adds one more adapter.
    """
    stacks = {stack.module: stack for stack in inputs}
    step = Step({m: LowRank(s.lefts[0][:, :0], s.rights[0][:, :0]) for m, s in stacks.items()}, State(), {})
    ranks = dict.fromkeys(stacks, 0)
    for index in range(len(inputs)):
        new = {}
        for module, stack in stacks.items():
            if index in stack.members:
                at = stack.members.index(index)
                new[module] = LowRank(stack.lefts[at] * stack.weights[at], stack.rights[at])
                ranks[module] = k_max or max(ranks[module], stack.rights[at].shape[1])
        step = advance(step.merged, step.state, new, alpha, ranks)
    for module, merged in step.merged.items():
        yield Piece(module, merged, {"truncated": step.cuts.get(module, (0.0, 0.0))}, step.state.facts())


def advance(merged: Deltas, state: State, new: Deltas, alpha: float, ranks: Mapping[str, int]) -> Step:
    """One step: ``new`` into ``merged``, each module cut to its rank; a module that ``new`` lacks counts as zero there."""
    norm = sqrt(sum(squared_norm(delta.left, delta.right) for delta in new.values()))
    if norm == 0.0:
        return Step(merged, state, {})
    cuts = {module: refactor(_sum(state.lam, merged[module], new.get(module), alpha), ranks[module]) for module in merged}
    mean_norm = (state.count * state.mean_norm + norm) / (state.count + 1)
    kept = sqrt(max(0.0, sum(cut.squared_norm - cut.squared_error for cut in cuts.values())))
    lam = kept / mean_norm if kept > 0.0 else 1.0
    scaled = {m: LowRank(cut.factors.left / sqrt(lam), cut.factors.right / sqrt(lam)) for m, cut in cuts.items()}
    lost = {m: (cut.squared_error / lam**2, cut.squared_norm / lam**2) for m, cut in cuts.items()}
    return Step(scaled, State(state.count + 1, mean_norm, lam), lost)


def cleaned(merged: LowRank, new: LowRank, alpha: float) -> LowRank:
    """τ̃: ``new`` without what lies in the leading directions of ``merged`` and on its diagonal."""
    U, S, V = svd(merged)
    rank = int((S > 0.0).sum())
    U, S, V = U[:, :rank], S[:rank], V[:, :rank]
    left, right = U.T @ new.left, V.T @ new.right
    P = torch.diag((left * right).sum(dim=1))
    leading = int((S.cumsum(0) <= alpha * S.sum()).sum())
    P[:leading, :leading] = left[:leading] @ right[:leading].T
    return LowRank(torch.cat([new.left, U], dim=1), torch.cat([new.right, -V @ P.T], dim=1))


def truncation(cuts: Mapping[str, tuple[float, float]]) -> float:
    """What a step's cut lost, relative, over all modules."""
    return relative(sum(error for error, _ in cuts.values()), sum(norm for _, norm in cuts.values()))


def _sum(lam: float, merged: LowRank, new: LowRank | None, alpha: float) -> LowRank:
    if new is None:
        return LowRank(merged.left * lam, merged.right)
    fresh = cleaned(merged, new, alpha)
    return LowRank(torch.cat([merged.left * lam, fresh.left], dim=1), torch.cat([merged.right, fresh.right], dim=1))


METHOD = Method(
    name="opcm",
    merge=opcm,
    kind="equivariant",
    summary="one after the other, each orthogonal to the merge so far",
    formula="M_t = (λ_{t−1}·M_{t−1} + τ̃_t) / λ_t, ⟨τ̃_t, M_{t−1}⟩ = 0",
    source="arXiv 2501.09522",
    laws={"itself": {}, "copies": {}, "zero_weight": {}, "gauge": {}},
    ordered=True,
)
