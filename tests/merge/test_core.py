"""The cut to rank k, thin and dense, against numpy's SVD."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.errors import RefusedInputError
from adapterbank.merge import core, dense
from adapterbank.merge.core import LowRank, refactor, refactor_to, svd


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(factors: LowRank) -> np.ndarray:
    return (factors.left @ factors.right.T).numpy()


@settings(max_examples=60, deadline=None)
@given(
    d_out=st.integers(1, 14), d_in=st.integers(1, 14), K=st.integers(1, 20), rank=st.integers(1, 20), seed=st.integers(0, 99)
)
def test_thin_and_dense_cuts_are_the_truncated_svd(d_out, d_in, K, rank, seed):
    thin = LowRank(random(d_out, K, seed=seed), random(d_in, K, seed=seed + 1))
    dense = product(thin)
    U, S, Vh = np.linalg.svd(dense, full_matrices=False)
    best = (U[:, :rank] * S[:rank]) @ Vh[:rank]
    lost, norm = float((S[rank:] ** 2).sum()), float((S**2).sum())
    for cut in (refactor(thin, rank), refactor(torch.from_numpy(dense), rank)):
        assert cut.factors.left.shape[1] == cut.factors.right.shape[1] <= min(rank, d_out, d_in)
        assert cut.squared_norm == pytest.approx(norm, rel=1e-9)
        assert cut.squared_error == pytest.approx(lost, rel=1e-6, abs=1e-12 * norm)
        kept = min(rank, len(S))
        gap = S[kept - 1] - S[kept] if kept < len(S) else S[0]
        if gap > 1e-3 * S[0]:  # otherwise there is more than one best approximation
            np.testing.assert_allclose(product(cut.factors), best, atol=1e-6 * S[0])


def test_the_two_factors_share_the_singular_values():
    factors = refactor(LowRank(random(8, 3), random(6, 3)), 3).factors
    S = np.linalg.svd(product(factors), compute_uv=False)[:3]
    np.testing.assert_allclose((factors.left.T @ factors.left).numpy(), np.diag(S), atol=1e-12)
    np.testing.assert_allclose((factors.right.T @ factors.right).numpy(), np.diag(S), atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
def test_the_largest_entry_of_each_left_vector_is_positive(shape):
    left = random(*shape)
    for cut in (refactor(LowRank(left, torch.eye(shape[1], dtype=torch.float64)), 4), refactor(left, 4)):
        columns = cut.factors.left
        assert bool((columns.gather(0, columns.abs().argmax(dim=0, keepdim=True)) > 0).all())


def test_singular_values_are_those_of_the_product():
    thin = LowRank(random(9, 4), random(7, 4, seed=1))
    U, S, V = svd(thin)
    np.testing.assert_allclose(S.numpy(), np.linalg.svd(product(thin), compute_uv=False)[:4], rtol=1e-12)
    np.testing.assert_allclose(((U * S) @ V.T).numpy(), product(thin), atol=1e-13)


@pytest.mark.parametrize("matrix", [LowRank(torch.zeros(4, 2).double(), random(3, 2)), torch.zeros(4, 3).double()])
def test_zero_is_cut_to_exact_zeros(matrix):
    cut = refactor(matrix, 2)
    assert (cut.squared_error, cut.squared_norm) == (0.0, 0.0)
    assert not cut.factors.left.any()
    assert not cut.factors.right.any()


def test_the_dense_cut_falls_back_if_the_eigenvectors_are_not_orthonormal(monkeypatch):
    dense = random(7, 5)
    expected = product(refactor(dense, 2).factors)

    class Wrong:
        eigenvectors = torch.ones(5, 5, dtype=torch.float64)

    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: Wrong)
    np.testing.assert_allclose(product(refactor(dense, 2).factors), expected, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_entries_that_are_no_numbers_are_refused(bad):
    left = random(4, 2)
    left[1, 1] = bad
    for matrix in (left, LowRank(left, random(3, 2))):
        with pytest.raises(RefusedInputError, match="NaN or infinite"):
            refactor(matrix, 1)


ENERGIES = [0.3, 0.9, 0.999, 1.0]


@pytest.mark.parametrize("energy", ENERGIES)
def test_an_energy_is_kept_by_the_least_rank_that_can(energy):
    thin = LowRank(random(30, 12), random(25, 12, seed=1))
    kept = np.cumsum(np.linalg.svd(product(thin), compute_uv=False) ** 2)
    needed = int((kept < energy * kept[-1] * (1 - 1e-14)).sum()) + 1
    for cut in (refactor_to(thin, energy), refactor_to(torch.from_numpy(product(thin)), energy)):
        assert cut.factors.left.shape[1] == min(needed, 12)
        assert cut.squared_norm == pytest.approx(kept[-1])
        assert cut.squared_error == pytest.approx(kept[-1] - kept[needed - 1], rel=1e-6, abs=1e-10 * kept[-1])


def test_nothing_keeps_any_share_of_nothing():
    for matrix in (LowRank(torch.zeros(4, 2).double(), random(3, 2)), torch.zeros(4, 3).double()):
        cut = refactor_to(matrix, 0.5)
        assert (cut.factors.left.shape[1], cut.squared_error, cut.squared_norm) == (1, 0.0, 0.0)


@pytest.fixture
def large(monkeypatch):
    """Every dense matrix counts as large, and many columns begin at ten."""
    monkeypatch.setattr(dense, "_SMALL", 0)
    monkeypatch.setattr(core, "_WIDE", 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 5])
def test_a_large_dense_matrix_is_cut_within_a_thousandth_of_the_best(dtype, rank, large):
    matrix = (random(600, 9) @ random(700, 9, seed=1).T + 3 * random(600, 700, seed=2)).to(dtype)
    S = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    cut = refactor(matrix, rank)
    assert cut.squared_norm == pytest.approx((S**2).sum(), rel=1e-5)
    assert cut.squared_error == pytest.approx(np.linalg.norm(matrix.double().numpy() - product(cut.factors)) ** 2, rel=1e-5)
    assert cut.squared_error <= 1.001**2 * (S[rank:] ** 2).sum()


@pytest.mark.parametrize("energy", [0.4, 0.7])
def test_a_large_dense_matrix_keeps_its_energy_at_about_the_least_rank(energy, large):
    matrix = (random(600, 40) @ random(700, 40, seed=1).T + 3 * random(600, 700, seed=2)).float()
    kept = np.cumsum(np.linalg.svd(matrix.double().numpy(), compute_uv=False) ** 2)
    needed = int((kept < energy * kept[-1]).sum()) + 1
    cut = refactor_to(matrix, energy)
    assert needed <= cut.factors.left.shape[1] <= needed + 1
    assert cut.squared_error <= (1 - energy) * cut.squared_norm


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_many_columns_are_cut_like_few(rank, monkeypatch):
    thin = LowRank(random(90, 40) * torch.logspace(0, -4, 40, dtype=torch.float64), random(80, 40, seed=1))
    best = refactor(thin, rank)
    monkeypatch.setattr(core, "_WIDE", 10)
    cut = refactor(thin, rank)
    np.testing.assert_allclose(product(cut.factors), product(best.factors), atol=1e-10)
    assert cut.squared_error == pytest.approx(best.squared_error, rel=1e-9)
    assert cut.squared_norm == pytest.approx(best.squared_norm, rel=1e-12)


def test_many_columns_that_repeat_each_other_go_through_qr(large):
    left, right = random(60, 4), random(50, 4, seed=1)
    copies = LowRank(left.repeat(1, 8), right.repeat(1, 8))
    cut = refactor(copies, 4)
    np.testing.assert_allclose(product(cut.factors), 8 * (left @ right.T).numpy(), atol=1e-11)
    assert cut.squared_error < 1e-20 * cut.squared_norm


def test_what_is_barely_lost_is_measured_all_the_same(large):
    """A difference of squares could not see a residual of 1e-6."""
    sizes = torch.tensor([1.0] * 3 + [1e-6] * 27, dtype=torch.float64)
    orthonormal = [torch.linalg.qr(random(side, 30, seed=side)).Q for side in (70, 60)]
    cut = refactor(LowRank(orthonormal[0] * sizes, orthonormal[1]), 3)
    assert cut.squared_error == pytest.approx(27e-12, rel=1e-3)
