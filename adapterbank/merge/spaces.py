"""Where an elementwise rule is applied: the same n deltas in other coordinates, and the way back.

``full`` is ΔW entry by entry. ``core`` (Core Space, arXiv 2509.17786) takes the deltas between the left singular vectors of
all left factors and those of all right factors: K × K each, K = Σ r_i at most. ``knots`` (arXiv 2410.19735) takes
``[ΔW_1 | … | ΔW_n] = U·[S·V_1ᵀ | … | S·V_nᵀ]`` and compares the S·V_iᵀ. ``factors`` takes the left factors and the right
factors apart, as PEFT does. Every space is a :class:`Stack` again, so a rule sees no difference.

Ours, not the authors': Core Space's factors are balanced first (U√S and V√S of each delta), so that ``core``, like ``full``
and ``knots``, depends on the deltas only and not on their gauge. An adapter with weight 0 has no part in the bases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import copysign, sqrt

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError
from adapterbank.merge.core import LowRank, svd
from adapterbank.merge.stack import Stack

_KNOTS = 1e-5  # the authors' bound on singular values, relative to the largest
_NULL = 1e-12  # directions that only rounding gives


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """``parts`` are the stacks that a rule merges, each into one dense ``[d_out, d_in]`` of its own; ``join`` takes them back.

    A part's ``module`` is the module's name; where the space is not ``full``, a line feed and the name of the part follow,
    which keys the random streams apart. A part's ``weights`` are those that count in it.
    """

    parts: tuple[Stack, ...]
    join: Callable[[Sequence[Tensor]], LowRank | Tensor]


def space_of(stack: Stack, space: str) -> Coordinates:
    """``stack`` in the coordinates ``full``, ``core``, ``knots`` or ``factors``.

    ``full`` and ``knots`` are computed in the stack's precision, the others, which are small, in float64. Raises
    IncompatibleError if ``factors`` finds unequal ranks.
    """
    return _SPACES[space](stack)


def elementwise(stack: Stack, space: str, rule: Callable[[Stack], Tensor]) -> LowRank | Tensor:
    """The merge of ``stack`` by ``rule``, which gives one dense matrix for each part of the ``space``."""
    coordinates = space_of(stack, space)
    return coordinates.join([rule(part) for part in coordinates.parts])


def _full(stack: Stack) -> Coordinates:
    return Coordinates((_narrowed(stack, stack.lefts, stack.module),), lambda results: results[0])


def _core(stack: Stack) -> Coordinates:
    lefts, rights = zip(*(_balanced(*sides) for sides in zip(stack.lefts, stack.rights, strict=True)), strict=True)
    left, right = _directions(_used(stack, lefts), _NULL), _directions(_used(stack, rights), _NULL)
    part = replace(
        stack,
        module=f"{stack.module}\ncore",
        lefts=tuple(left.T @ each for each in lefts),
        rights=tuple(right.T @ each for each in rights),
    )
    return Coordinates((part,), lambda results: LowRank(left @ results[0].to(left), right))


def _knots(stack: Stack) -> Coordinates:
    triangles = [torch.linalg.qr(right, mode="r").R for right in stack.rights]
    spanned = [left @ triangle.T for left, triangle in zip(stack.lefts, triangles, strict=True)]  # [ΔW_i] has its left vectors
    left = _directions(_used(stack, spanned), _KNOTS)
    part = _narrowed(stack, tuple(left.T @ each for each in stack.lefts), f"{stack.module}\nknots")
    return Coordinates((part,), lambda results: LowRank(left, results[0].to(left).T))


def _factors(stack: Stack) -> Coordinates:
    """Both factors of one norm and weighted by √|w|, the sign on the right: one adapter with weight w gives w·ΔW."""
    ranks = sorted({left.shape[1] for left in stack.lefts if left.shape[1]})
    if len(ranks) > 1:
        raise IncompatibleError(
            f"space factors compares entries of factors: module {stack.module!r} has the ranks {ranks}, expected equal ones",
            hint="the spaces full, core and knots take adapters of any ranks",
        )
    unit = torch.eye(ranks[0] if ranks else 1, dtype=stack.lefts[0].dtype, device=stack.lefts[0].device)
    sides = [_evened(*sides) for sides in zip(stack.lefts, stack.rights, strict=True)]
    units = tuple(unit[:, : left.shape[1]] for left, _ in sides)
    roots = tuple(sqrt(abs(weight)) for weight in stack.weights)
    signed = tuple(copysign(root, weight) for root, weight in zip(roots, stack.weights, strict=True))
    lefts, rights = tuple(left for left, _ in sides), tuple(right for _, right in sides)
    left = replace(stack, module=f"{stack.module}\nfactors.left", lefts=lefts, rights=units, weights=roots)
    right = replace(stack, module=f"{stack.module}\nfactors.right", lefts=rights, rights=units, weights=signed)
    return Coordinates((left, right), lambda results: LowRank(results[0], results[1]))


_SPACES: Mapping[str, Callable[[Stack], Coordinates]] = {"full": _full, "core": _core, "knots": _knots, "factors": _factors}


def _narrowed(stack: Stack, lefts: Sequence[Tensor], module: str) -> Stack:
    """The stack with these left factors, in its precision."""
    narrow = tuple(left.to(stack.precision) for left in lefts)
    return replace(stack, module=module, lefts=narrow, rights=tuple(right.to(stack.precision) for right in stack.rights))


def _used(stack: Stack, sides: Sequence[Tensor]) -> Tensor:
    """Side by side, those of the adapters with a weight; all if there are none."""
    chosen = [side for side, weight in zip(sides, stack.weights, strict=True) if weight] or list(sides)
    return torch.cat(chosen, dim=1)


def _directions(columns: Tensor, least: float) -> Tensor:
    """The left singular vectors of ``columns`` with values above ``least`` times the largest; one at least."""
    Q, R = torch.linalg.qr(columns)
    U, S, _ = torch.linalg.svd(R)
    if not len(S):
        return columns.new_zeros(columns.shape[0], 1)
    vectors: Tensor = Q @ U[:, : max(1, int((S / S[0] > least).sum()))]
    return vectors


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """U√S and V√S of the delta."""
    if not left.shape[1]:
        return left, right
    U, S, V = svd(LowRank(left, right))
    return U * S.sqrt(), V * S.sqrt()


def _evened(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product from factors of equal Frobenius norm."""
    norms = float(left.norm()), float(right.norm())
    ratio = sqrt(norms[1] / norms[0]) if all(norms) else 1.0
    return left * ratio, right / ratio
