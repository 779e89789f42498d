"""Where adapters agree and where they are against each other: norms, cosines and signs of their deltas, module by module.

Inner products come from the factors; signs need every entry and are counted in row tiles, so that no
delta is ever dense as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.determinism import fixed_arithmetic
from adapterbank.merge.elementwise import row_tiles
from adapterbank.merge.gram import cosines, gram
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.stack import Stack


@dataclass(frozen=True, slots=True, eq=False)
class Conflict:
    """Sums over the entries of a module, or of several: they add up.

    ``gram [n, n]`` holds ⟨ΔW_i, ΔW_j⟩; ``opposed`` and ``shared`` ``[n, n]`` how many entries of a pair have opposite signs,
    and how many are non-zero in both. ``mass`` is Σ Σ_i |w_i·ΔW_i|, ``net`` is Σ |Σ_i w_i·ΔW_i|. ``products [n]`` are
    ⟨M, ΔW_i⟩ with the merge M, ``merged`` is ‖M‖².
    """

    gram: Tensor
    opposed: Tensor
    shared: Tensor
    mass: float
    net: float
    products: Tensor
    merged: float

    def __add__(self, other: Conflict) -> Conflict:
        return Conflict(
            self.gram + other.gram, self.opposed + other.opposed, self.shared + other.shared, self.mass + other.mass,
            self.net + other.net, self.products + other.products, self.merged + other.merged,
        )  # fmt: skip

    @property
    def norms(self) -> list[float]:
        """‖ΔW_i‖ of each adapter."""
        return self.gram.diagonal().clamp(min=0.0).sqrt().tolist()

    @property
    def cosine(self) -> list[list[float]]:
        """The cosine of every pair; 0 with an adapter that has nothing here."""
        found: list[list[float]] = cosines(self.gram).tolist()
        return found

    @property
    def disagreement(self) -> float:
        """Share of entries with opposite signs, the mean over pairs (0 to 1; unrelated adapters have a half)."""
        return float(_quotient(self.opposed.sum(), self.shared.sum()))

    @property
    def cancelled(self) -> float:
        """Share of the weighted mass that cancels in the sum, ``1 − Σ|Σ w·ΔW| / Σ Σ|w·ΔW|``."""
        return 1.0 - self.net / self.mass if self.mass else 0.0

    @property
    def merged_norm(self) -> float:
        """‖M‖ of the merge."""
        return sqrt(max(self.merged, 0.0))

    @property
    def kept(self) -> list[float]:
        """The cosine of the merge with each adapter: how much of its direction is in the result."""
        return _quotient(self.products, self.gram.diagonal().clamp(min=0.0).sqrt() * self.merged_norm).clamp(-1, 1).tolist()


def conflicts(inputs: Inputs, merged: Adapter | None = None) -> Iterator[tuple[str, Conflict]]:
    """For every module, in order of name, how the adapters of ``inputs`` meet there; before any preparation."""
    with fixed_arithmetic():
        for module in inputs.shapes:
            stack = inputs.original(module)
            factors = None if merged is None else merged.modules.get(module)
            yield module, _spread(_conflict(stack, factors), stack.members, len(inputs))


def total(found: Mapping[str, Conflict]) -> Conflict:
    """The sums over all modules; there is at least one."""
    first, *rest = found.values()
    return sum(rest, start=first)


def _conflict(stack: Stack, merged: Factors | None) -> Conflict:
    """The merge is one more adapter of the stack."""
    beside = stack
    if merged is not None:
        left, right = merged.B.double() * merged.scaling, merged.A.double().T
        beside = replace(stack, lefts=(*stack.lefts, left), rights=(*stack.rights, right))
    n, products = len(stack), gram(beside)
    own = products[:n, :n]
    opposed, shared, mass, net = _signs(stack)
    if merged is None:
        return Conflict(own, opposed, shared, mass, net, own.new_zeros(n), 0.0)
    return Conflict(own, opposed, shared, mass, net, products[:n, n], float(products[n, n]))


def _signs(stack: Stack) -> tuple[Tensor, Tensor, float, float]:
    """How many entries of each pair are opposed and shared, and the mass before and after the sum."""
    n = len(stack)
    agree, shared = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    mass = net = 0.0
    weights = torch.tensor(stack.weights, dtype=torch.float64).view(-1, 1)
    for rows in row_tiles(stack):
        tile = torch.stack([stack.rows(i, rows).reshape(-1) for i in range(n)])
        signs = tile.sign()
        agree += signs @ signs.T
        shared += signs.abs() @ signs.abs().T
        mass += float((tile * weights).abs().sum())
        net += float((tile * weights).sum(dim=0).abs().sum())
    pairs = 1.0 - torch.eye(n, dtype=torch.float64)
    return (shared - agree) / 2 * pairs, shared * pairs, mass, net


def _spread(found: Conflict, members: tuple[int, ...], count: int) -> Conflict:
    """The same in the places of the whole merge, zeros for adapters that are left out of this module."""
    if len(members) == count:
        return found
    at = torch.tensor(members)
    squares = [torch.zeros(count, count, dtype=torch.float64) for _ in range(3)]
    for target, source in zip(squares, (found.gram, found.opposed, found.shared), strict=True):
        target[at[:, None], at[None, :]] = source
    products = torch.zeros(count, dtype=torch.float64)
    products[at] = found.products
    return Conflict(squares[0], squares[1], squares[2], found.mass, found.net, products, found.merged)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """Entry by entry; 0 where there is nothing below."""
    return torch.where(below > 0.0, above / below.masked_fill(below == 0.0, 1.0), 0.0)
