"""Shared subspaces: HOOI climbs, and finds what is there."""

import pytest
import torch

from adapterbank.merge.tucker import shared_subspaces


def matrices(count, rows, columns, seed=0):
    return torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_every_sweep_captures_at_least_as_much_and_the_columns_are_orthonormal(rank):
    found = shared_subspaces(matrices(4, 10, 8), rank)
    assert len(found.captured) >= 3
    assert all(later >= earlier * (1 - 1e-14) for earlier, later in zip(found.captured, found.captured[1:], strict=False))
    for basis in (found.U, found.V):
        torch.testing.assert_close(basis.T @ basis, torch.eye(rank, dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_shared_subspace_is_found_exactly():
    small = matrices(5, 2, 3)
    U, V = torch.linalg.qr(matrices(1, 9, 2, seed=1)[0]).Q, torch.linalg.qr(matrices(1, 7, 3, seed=2)[0]).Q
    stack = U @ small @ V.T
    found = shared_subspaces(stack, 3)
    assert found.captured[-1] == pytest.approx(float(stack.square().sum()), rel=1e-12)


def test_it_captures_more_than_the_subspaces_of_each_side_alone():
    stack = matrices(6, 12, 12)
    found = shared_subspaces(stack, 3)
    U, V = (torch.linalg.eigh((side @ side.mT).sum(0)).eigenvectors[:, -3:] for side in (stack, stack.mT))
    assert found.captured[-1] > float((U.T @ stack @ V).square().sum())


def test_of_one_matrix_it_is_the_truncated_svd():
    stack = matrices(1, 8, 6)
    found = shared_subspaces(stack, 2)
    assert found.captured[-1] == pytest.approx(float(torch.linalg.svdvals(stack[0])[:2].square().sum()), rel=1e-10)


def test_the_rank_is_bounded_by_the_sides():
    found = shared_subspaces(matrices(2, 5, 3), 9)
    assert (found.U.shape, found.V.shape) == ((5, 3), (3, 3))
