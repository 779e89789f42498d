"""The delta that answers like each adapter on that adapter's own inputs, in the least squares sense; never dense in d_out.

With ``G_i = X_iᵀX_i / N_i`` the minimum of ``Σ_i |w_i|·‖X_i(Δ − sign(w_i)·ΔW_i)ᵀ‖² / N_i`` is ``Δ = (Σ w_i ΔW_i G_i) S⁻¹`` with
``S = Σ |w_i| G_i``: in factors ``[left_1 | … | left_n]`` and ``S⁻¹ [w_1 G_1 right_1 | … | w_n G_n right_n]``, of rank Σ r_i at
most. A Gram matrix may be given as its diagonal, ``[d_in]``: that of an embedding, whose inputs are unit vectors. It is stored
without its lower half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.lora.delta import squared_norm
from adapterbank.merge.core import Cut, LowRank, refactor
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack

Ratio = Annotated[float, Hint("α: entries of a Gram matrix off its diagonal are multiplied by it", at_least=0.0, at_most=1.0)]
Ridge = Annotated[float, Hint("added to every Gram matrix's diagonal, in units of the mean diagonal entry", at_least=0.0)]


def packed(gram: Tensor) -> Tensor:
    """The entries on and above the diagonal of ``gram [d, d]``, row by row ``[d(d + 1)/2]``; a diagonal as it is."""
    return gram if gram.ndim == 1 else gram[_upper(len(gram))]


def unpacked(entries: Tensor, d_in: int) -> Tensor:
    """The Gram matrix ``[d_in, d_in]`` of packed entries; a diagonal ``[d_in]`` or a whole matrix as it is."""
    if entries.ndim == 2 or len(entries) == d_in:
        return entries
    gram = torch.zeros(d_in, d_in, dtype=entries.dtype)
    gram[_upper(d_in)] = entries
    return gram + gram.triu(1).T


def packed_shapes(d_in: int) -> tuple[tuple[int, ...], ...]:
    """The shapes that :func:`unpacked` takes."""
    return (d_in * (d_in + 1) // 2,), (d_in,), (d_in, d_in)


def shrunk(gram: Tensor, ratio: float) -> Tensor:
    """``gram`` with its entries off the diagonal times ``ratio``."""
    return gram if gram.ndim == 1 else gram * ratio + torch.diag(gram.diagonal() * (1.0 - ratio))


def ridged(grams: Sequence[Tensor], weights: Sequence[float], ridge: float) -> list[Tensor]:
    """Each of ``grams`` plus the same multiple of the identity: ``ridge`` times their mean (by |weight|) diagonal entry.

    In directions that no adapter's inputs have, the least squares solution becomes the mean of the deltas. So it does
    everywhere if there were no inputs at all.
    """
    shares = [abs(weight) / sum(map(abs, weights)) for weight in weights]
    level = sum(share * float(_diagonal(gram).mean()) for share, gram in zip(shares, grams, strict=True))
    return [_plus_identity(gram, level * ridge if level else 1.0) for gram in grams]


def total(grams: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``S = Σ |w_i| G_i``."""
    scaled = [gram * abs(weight) for gram, weight in zip(grams, weights, strict=True)]
    return sum(scaled[1:], start=scaled[0])


def least_squares(stack: Stack, grams: Sequence[Tensor]) -> LowRank:
    """The minimum, exactly. Raises UsageError if S is not invertible, or all weights are 0."""
    pairs = zip(stack.rights, grams, stack.weights, strict=True)
    right = torch.cat([_times(gram, right) * weight for right, gram, weight in pairs], dim=1)
    S = total(grams, stack.weights)
    if S.ndim == 1:
        _check(bool((S > 0.0).all()), stack.module)
        return LowRank(torch.cat(stack.lefts, dim=1), right / S[:, None])
    return LowRank(torch.cat(stack.lefts, dim=1), torch.cholesky_solve(right, _root(S, stack.module)))


def loss(stack: Stack, grams: Sequence[Tensor], merged: LowRank) -> float:
    """``Σ_i |w_i| tr(D_i G_i D_iᵀ)`` with ``D_i = merged − sign(w_i)·ΔW_i``: what :func:`least_squares` minimises."""
    lost = 0.0
    for left, right, gram, weight in zip(stack.lefts, stack.rights, grams, stack.weights, strict=True):
        sign = -1.0 if weight < 0.0 else 1.0
        difference = LowRank(torch.cat([merged.left, left * -sign], dim=1), torch.cat([merged.right, right], dim=1))
        lost += abs(weight) * weighed(difference, gram)
    return lost


def energy(stack: Stack, grams: Sequence[Tensor]) -> float:
    """``Σ_i |w_i| tr(ΔW_i G_i ΔW_iᵀ)``: the loss of no delta at all."""
    pairs = zip(stack.lefts, stack.rights, grams, stack.weights, strict=True)
    return sum(abs(weight) * weighed(LowRank(left, right), gram) for left, right, gram, weight in pairs)


def cut_under(matrix: LowRank, metric: Tensor, rank: int) -> Cut:
    """The matrix of at most ``rank`` closest to ``matrix`` in ``‖D·S^½‖``, S the positive definite ``metric``.

    Reduced-rank regression: with S = LLᵀ, the truncated SVD of ``matrix·L``, then ``L⁻¹`` from the right. The factors are
    balanced; the errors of the :class:`Cut` are plain Frobenius norms, as everywhere. Raises UsageError as
    :func:`least_squares`.
    """
    if metric.ndim == 1:
        root = metric.sqrt()[:, None]
        inner = refactor(LowRank(matrix.left, matrix.right * root), rank).factors
        outer = LowRank(inner.left, inner.right / root)
    else:
        L = _root(metric, "to be cut")
        inner = refactor(LowRank(matrix.left, L.T @ matrix.right), rank).factors
        outer = LowRank(inner.left, torch.linalg.solve_triangular(L.T, inner.right, upper=True))
    factors = refactor(outer, rank).factors
    difference = torch.cat([matrix.left, -factors.left], dim=1), torch.cat([matrix.right, factors.right], dim=1)
    return Cut(factors, squared_norm(*difference), squared_norm(matrix.left, matrix.right))


def weighed(matrix: LowRank, gram: Tensor) -> float:
    """``tr(M G Mᵀ)``, the energy of the answers of ``matrix`` to inputs of that Gram matrix; rounding below zero cut off."""
    return max(0.0, float(((matrix.left.T @ matrix.left) * (matrix.right.T @ _times(gram, matrix.right))).sum()))


def _times(gram: Tensor, right: Tensor) -> Tensor:
    return gram[:, None] * right if gram.ndim == 1 else gram @ right


def _upper(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).triu()


def _diagonal(gram: Tensor) -> Tensor:
    return gram if gram.ndim == 1 else gram.diagonal()


def _plus_identity(gram: Tensor, level: float) -> Tensor:
    return gram + level if gram.ndim == 1 else gram + level * torch.eye(len(gram), dtype=gram.dtype)


def _root(S: Tensor, module: str) -> Tensor:
    """The lower Cholesky factor."""
    factored = torch.linalg.cholesky_ex(S)
    _check(not int(factored.info), module)
    factor: Tensor = factored.L
    return factor


def _check(invertible: bool, module: str) -> None:
    if not invertible:
        raise UsageError(
            f"module {module!r}: the sum of the Gram matrices is not positive definite",
            hint="give a larger ridge, such as 1e-6",
        )
