"""DOGE (arXiv 2501.01230, with task arithmetic): adaptive projective gradient descent on one delta common to all tasks.

From the authors: the loss, the projection, λ per layer, the masks, 400 steps of Adam. Ours: singular vectors are cut at the
true rank of an adapter, because those of its null space are arbitrary; and gradient and projection come from the factors, so
that only the common delta and Adam's two moments are dense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.linalg.workers import share_out
from adapterbank.lora.delta import squared_norm
from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.elementwise import row_tiles
from adapterbank.merge.gram import ownership
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.methods.ties import Scope
from adapterbank.merge.options import Hint
from adapterbank.merge.spaces import space_of
from adapterbank.merge.sparsify import thresholds
from adapterbank.merge.stack import Stack

TopK = Annotated[float, Hint("fraction of the entries of each ΔW that is kept", above=0.0, at_most=1.0)]
Eta = Annotated[float, Hint("η: λ_i = η·w_i / ‖ΔW_i‖ in each module; the authors: 0.07")]
Steps = Annotated[int, Hint("steps of Adam", above=-1)]
Rate = Annotated[float, Hint("Adam's learning rate", above=0.0)]
Subspace = Annotated[int, Hint("the shared space has ⌊min(d_out, d_in) / subspace⌋ dimensions at most", above=0)]
_FIRST, _SECOND, _EPS = 0.9, 0.999, 1e-8  # of Adam
_ROWS, _ENTRIES = 8, 1 << 17  # of a gradient at a time: rows at least, entries about


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """One module in its precision: all factors side by side ``[d_out, R]`` and ``[d_in, R]``, whose they are ``[R, n]``, λ_i,
    an orthonormal basis of the shared space, and ⟨τ_j, τ_j − Σ λ_i τ_i⟩ of every row ``[d_out, n]``."""

    left: Tensor
    right: Tensor
    owners: Tensor
    lams: Sequence[float]
    shared: Tensor
    fixed: Tensor


def doge(
    inputs: Inputs,
    *,
    K: TopK = 0.3,
    eta: Eta = 0.07,
    steps: Steps = 400,
    lr: Rate = 1e-4,
    subspace: Subspace = 6,
    scope: Scope = "model",
) -> Pieces:
    """``M = Σ λ_i·(ΔW_i + d)∘m_i``, m_i the top-K entries of |ΔW_i| (of the model or the module), d common to all adapters.

    d minimises ``Σ_j Σ_rows ⟨ΔW_j, ΔW_j − Σ λ_i (ΔW_i + d)⟩²`` with all gradients orthogonal to the space that the leading left
    singular vectors of the adapters share. Reports ``loss``, (loss at the end / loss at d = 0)^½.

    Two numbers are absolute: λ gives each adapter's part of a module the norm η, whatever its own norm is, so adapters that
    change more than the authors' vision models ask for a larger η; and 400 steps move an entry of d by about 0.04 at most.
    """

    def parts(*stacks: Stack) -> Iterator[Stack]:
        return (space_of(stack, "full").parts[0] for stack in stacks or inputs)

    whole = thresholds(parts, K) if scope == "model" else None
    for stack in inputs:
        part = next(parts(stack))
        problem = _problem(stack, part, eta, subspace)
        common, losses = _descend(problem, steps, lr)
        _mask_and_add(part, problem.lams, common, whole or thresholds(partial(parts, stack), K))
        yield Piece(stack.module, common, {"loss": losses}, near=stack.combine(problem.lams))


def _problem(stack: Stack, part: Stack, eta: float, subspace: int) -> _Problem:
    norms = [squared_norm(*sides) ** 0.5 for sides in zip(stack.lefts, stack.rights, strict=True)]
    lams = [eta * weight / norm if norm > 0.0 else 0.0 for weight, norm in zip(stack.weights, norms, strict=True)]
    left, right = torch.cat(part.lefts, dim=1), torch.cat(part.rights, dim=1)
    owners = ownership(part).to(left)
    products = right.T @ right
    towards = left @ (products * (owners @ owners.T)) - left * (owners @ left.new_tensor(lams)) @ products
    return _Problem(left, right, owners, lams, _shared(stack, subspace).to(left.dtype), left * towards @ owners)


def _shared(stack: Stack, subspace: int) -> Tensor:
    """Basis ``[d_out, k]`` of the space that the adapters' leading ⌊q/n⌋ left singular vectors share, q = min(d_out, d_in)."""
    side = min(stack.d_out, stack.d_in)
    tops = []
    for sides in zip(stack.lefts, stack.rights, strict=True):
        U, S, _ = svd(LowRank(*sides))
        tops.append(U[:, S > 0.0][:, : side // len(stack)])
    columns = torch.cat(tops, dim=1)
    U, S, _ = svd(LowRank(columns, torch.eye(columns.shape[1]).to(columns)))
    return U[:, S > 1e-9][:, : side // subspace]


def _descend(problem: _Problem, steps: int, lr: float) -> tuple[Tensor, tuple[float, float]]:
    """d ``[d_out, d_in]`` after ``steps`` of Adam, and the loss at the end and at the start."""
    left, right = problem.left, problem.right
    total = sum(problem.lams)
    d, first, second = (left.new_zeros(len(left), len(right)) for _ in range(3))
    reads = torch.zeros_like(left)  # d @ right
    for step in range(1, steps + 1):
        columns = left * (_scores(problem, reads) @ problem.owners.T) * (-2.0 * total)
        columns -= problem.shared @ (problem.shared.T @ columns)
        rate, scale = lr / (1.0 - _FIRST**step), (1.0 - _SECOND**step) ** -0.5

        def move(rows: slice, columns: Tensor = columns, rate: float = rate, scale: float = scale) -> None:
            gradient = columns[rows] @ right.T
            first[rows].lerp_(gradient, 1.0 - _FIRST)
            second[rows].mul_(_SECOND).addcmul_(gradient, gradient, value=1.0 - _SECOND)
            divisor = torch.sqrt(second[rows], out=gradient).mul_(scale).add_(_EPS)
            d[rows].addcdiv_(first[rows], divisor, value=-rate)
            reads[rows] = d[rows] @ right

        share_out(move, _tiles(problem))
    return d, (float(_scores(problem, reads).square().sum()), float(problem.fixed.square().sum()))


def _tiles(problem: _Problem) -> Iterator[slice]:
    """Rows of which d, its gradient and its moments stay in the cache together."""
    step = max(_ROWS, _ENTRIES // len(problem.right))
    return (slice(start, start + step) for start in range(0, len(problem.left), step))


def _scores(problem: _Problem, reads: Tensor) -> Tensor:
    """⟨τ_j, τ_j − Σ λ_i (τ_i + d)⟩ of every row ``[d_out, n]``, from ``reads``, which is d @ right."""
    return problem.fixed - problem.left * reads @ problem.owners * sum(problem.lams)


def _mask_and_add(part: Stack, lams: Sequence[float], d: Tensor, least: Mapping[int, float]) -> None:
    """``Σ λ_i·(ΔW_i + d)∘m_i`` in the place of ``d``."""
    for rows in row_tiles(part):
        common = d[rows].clone()
        d[rows] = 0.0
        for index, (lam, member) in enumerate(zip(lams, part.members, strict=True)):
            tile = part.rows(index, rows)
            d[rows] += (tile + common).mul_(tile.abs() >= least[member]).mul_(lam)


METHOD = Method(
    name="doge",
    merge=doge,
    kind="dense",
    summary="a common delta by projected gradients, then the top entries of each",
    formula="M = Σ λ·(ΔW + d)∘m, d = argmin Σ ⟨ΔW_j, ΔW_j − M⟩² off the shared space",
    source="arXiv 2501.01230",
    laws={"order": {}, "gauge": {}},
)
