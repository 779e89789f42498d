"""The trellis of the quantizer: which of two scalar quantizers each sample gets (Marcellin & Fischer 1990, Fischer & Wang
1992).

Quantizer 0 holds the even multiples 2k·Δ, quantizer 1 zero and the odd ones (2k − sgn k)·Δ. The state's lowest bit names the
quantizer, and the parity of k drives the state: Ungerboeck's systematic convolutional codes (1982, table I) in observer form,
next(s, p) = (s >> 1) ⊕ (s & 1)·(h⁰ >> 1) ⊕ p·(h¹ >> 1). A state is a few integers, so every machine walks the same path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# Number of states: parity-check polynomials (h⁰, h¹), octal as published.
_CODES = {4: (0o5, 0o2), 8: (0o13, 0o4), 16: (0o23, 0o4), 32: (0o45, 0o10), 64: (0o103, 0o24)}
STATES = tuple(_CODES)


@dataclass(frozen=True, slots=True, eq=False)
class Trellis:
    """``following[s, p]`` is the state after state s and parity p; ``before[s, j]`` and ``parity[s, j]`` are the two ways
    in.
    """

    states: int
    feedback: int
    drive: int
    following: Tensor
    before: Tensor
    parity: Tensor


@cache
def trellis(states: int) -> Trellis:
    """The trellis with so many states; KeyError if there is none (see ``STATES``)."""
    feedback, drive = (polynomial >> 1 for polynomial in _CODES[states])
    following = [[(s >> 1) ^ (s & 1) * feedback ^ p * drive for p in (0, 1)] for s in range(states)]
    ways = [[(s, p) for s in range(states) for p in (0, 1) if following[s][p] == to] for to in range(states)]
    before = torch.tensor([[s for s, _ in pair] for pair in ways])
    parity = torch.tensor([[p for _, p in pair] for pair in ways])
    return Trellis(states, feedback, drive, torch.tensor(following), before, parity)


def best_path(costs: Tensor, lengths: Tensor, code: Trellis) -> Tensor:
    """The branches of the cheapest path of every lane ``[T, lanes]`` int64, a branch being 2·quantizer + parity.

    ``costs`` is ``[T, 4, lanes]``, the cost of each branch at each step; every lane starts in state 0 and ends anywhere after
    ``lengths`` steps (in descending order), later steps being undefined. All lanes walk in lockstep (Viterbi 1967).
    """
    T, _, lanes = costs.shape
    active = (lengths.unsqueeze(0) > torch.arange(T, device=lengths.device).unsqueeze(1)).sum(dim=1).tolist()
    branch = (2 * (code.before & 1) + code.parity).to(costs.device)
    first, second = code.before[:, 0].to(costs.device), code.before[:, 1].to(costs.device)
    total = torch.full((code.states, lanes), torch.inf, device=costs.device)
    total[0] = 0.0
    came = torch.zeros(T, code.states, lanes, dtype=torch.bool, device=costs.device)
    for t in range(T):
        n = active[t]
        if n == 0:
            break
        step, now = costs[t, :, :n], total[:, :n]
        one = now.index_select(0, first) + step.index_select(0, branch[:, 0])
        two = now.index_select(0, second) + step.index_select(0, branch[:, 1])
        torch.lt(two, one, out=came[t, :, :n]) if n == lanes else came[t, :, :n].copy_(two < one)
        total[:, :n] = torch.minimum(one, two)
    return _walk_back(total.argmin(dim=0), came, active, code)


def _walk_back(state: Tensor, came: Tensor, active: list[int], code: Trellis) -> Tensor:
    T, _, lanes = came.shape
    before, parity = code.before.to(state.device).flatten(), code.parity.to(state.device).flatten()
    path = torch.zeros(T, lanes, dtype=torch.int64, device=state.device)
    for t in range(T - 1, -1, -1):
        n = active[t]
        way = 2 * state[:n] + came[t, :, :n].gather(0, state[:n].unsqueeze(0)).squeeze(0)
        state[:n] = before[way]
        path[t, :n] = 2 * (state[:n] & 1) + parity[way]
    return path
