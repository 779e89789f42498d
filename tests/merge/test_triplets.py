"""What the spectral merges stand on: the small core, the numerical rank, the nearest orthonormal columns."""

import numpy as np
import pytest
import torch

from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.participants import nothing, participants, weighted
from adapterbank.merge.small_core import small_core
from adapterbank.merge.triplets import isotropic, orthonormal, triplets
from tests.merge.factories import adapter, digests


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ranks", [(2, 3), (4, 4, 4, 4), (1,)])
def test_the_small_core_holds_every_delta_exactly(ranks):
    parts = [LowRank(normal(12, r, seed=r + i), normal(9, r, seed=50 + r + i)) for i, r in enumerate(ranks)]
    core = small_core(parts)
    assert core.values.shape == (len(ranks), min(12, sum(ranks)), min(9, sum(ranks)))
    for part, value in zip(parts, core.values, strict=True):
        found = core.outside(value)
        torch.testing.assert_close(found.left @ found.right.T, part.left @ part.right.T, rtol=0, atol=1e-12)


def test_the_spectrum_of_knots_comes_from_the_small_core():
    parts = [LowRank(normal(12, 3, seed=i), normal(9, 3, seed=10 + i)) for i in range(4)]
    dense = np.hstack([(part.left @ part.right.T).numpy() for part in parts])
    core = np.hstack(small_core(parts).values.numpy())
    np.testing.assert_allclose(np.linalg.svd(core, compute_uv=False), np.linalg.svd(dense, compute_uv=False)[:12], atol=1e-12)


def test_the_numerical_rank_does_not_count_what_float32_rounds():
    left, right = normal(10, 3), normal(8, 3, seed=1)
    again = left + 1e-8 * normal(10, 3, seed=2)
    copies = LowRank(torch.cat([left, again], dim=1), torch.cat([right, right], dim=1))
    assert len(triplets(copies)) == 3
    smaller = LowRank(copies.left, copies.right * torch.tensor([1.0, 1.0, 1e-3, 1.0, 1.0, 1e-3], dtype=torch.float64))
    assert len(triplets(smaller)) == 3
    assert len(triplets(smaller, largest=1e9)) == 0


def test_orthonormal_columns_are_the_nearest():
    columns = normal(9, 4)
    found = orthonormal(columns)
    torch.testing.assert_close(found.T @ found, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-13)
    symmetric = found.T @ columns  # the other factor of the polar decomposition is symmetric and positive
    torch.testing.assert_close(symmetric, symmetric.T, rtol=0, atol=1e-12)
    assert float(torch.linalg.eigvalsh(symmetric).min()) > 0.0


def test_equal_columns_share_one_direction():
    unit = normal(7, 1)
    unit = unit / unit.norm()
    found = orthonormal(unit.repeat(1, 4))
    torch.testing.assert_close(found, unit.repeat(1, 4) / 2.0, rtol=0, atol=1e-13)


def test_a_cut_of_a_flat_spectrum_keeps_the_leading_directions():
    spectrum = triplets(LowRank(normal(20, 12), normal(15, 12, seed=1)))
    flat = isotropic(spectrum)
    U, S, _ = np.linalg.svd((flat.left @ flat.right.T).numpy())
    np.testing.assert_allclose(S[:12], float(spectrum.S.mean()), rtol=1e-6)
    projector = U[:, :5] @ U[:, :5].T
    np.testing.assert_allclose(projector, (spectrum.U[:, :5] @ spectrum.U[:, :5].T).numpy(), atol=1e-6)


def test_who_takes_part():
    silent = adapter(4)
    for factors in silent.modules.values():
        factors.B.zero_()
    adapters = [adapter(1), adapter(2, skip=["blocks.0.q"]), adapter(3), silent]
    stack = Inputs.of(adapters, [2.0, 1.0, 0.0, 1.0], digests(4), 0).stack("blocks.0.q")
    assert participants(stack) == (0,)
    (only,) = weighted(stack)
    torch.testing.assert_close(only.left @ only.right.T, 2.0 * stack.rows(0, slice(None)))
    assert not (nothing(stack).left @ nothing(stack).right.T).any() and nothing(stack).left.shape == (12, 1)
