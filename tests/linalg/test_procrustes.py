"""The polar factor: orthogonal, recovers a rotation, and beats every other one."""

from __future__ import annotations

import torch

from adapterbank.linalg.procrustes import polar


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_orthogonal_also_for_a_singular_matrix():
    for matrix in (normal(5, 5), normal(5, 2) @ normal(2, 5, seed=1), torch.zeros(5, 5)):
        Q = polar(matrix)
        torch.testing.assert_close(Q.T @ Q, torch.eye(5, dtype=torch.float64))


def test_a_rotation_is_recovered_exactly():
    X, Q = normal(40, 6), polar(normal(6, 6, seed=1))
    assert (polar(X.T @ (X @ Q)) - Q).abs().max() < 1e-13


def test_no_orthogonal_matrix_comes_closer():
    X, M = normal(30, 4), normal(30, 4, seed=1)
    best = (X @ polar(X.T @ M) - M).norm()
    others = [(X @ polar(normal(4, 4, seed=seed)) - M).norm() for seed in range(2, 60)]
    assert best < min(others)
