"""Batched eigenproblems: right on every spectrum, checked, and repaired."""

from __future__ import annotations

import pytest
import torch

from adapterbank.errors import AdapterBankError
from adapterbank.linalg import batched


def grams(count: int, k: int, inner: int, seed: int = 0) -> torch.Tensor:
    X = torch.randn(count, k, inner, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return X @ X.mT


@pytest.mark.parametrize(("k", "inner"), [(1, 3), (3, 8), (8, 8), (8, 3), (16, 20), (33, 40)])
def test_solution_rebuilds_the_matrices(k, inner):
    G = grams(50, k, inner)
    values, vectors = batched.eigh(G)
    assert (values.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(vectors * values.unsqueeze(1) @ vectors.mT, G, rtol=1e-12, atol=1e-11)
    assert batched.defects(G, values, vectors).max() < 1e-12


def test_zero_and_huge_and_tiny_matrices_pass_the_check():
    G = torch.stack([torch.zeros(4, 4, dtype=torch.float64), grams(1, 4, 6)[0] * 1e12, grams(1, 4, 6)[0] * 1e-40])
    values, vectors = batched.eigh(G)
    assert batched.defects(G, values, vectors).max() < 1e-12


def test_wrong_vectors_of_a_solver_are_seen_and_solved_again(monkeypatch):
    G, solve = grams(20, 6, 9), torch.linalg.eigh

    def broken(matrices):
        values, vectors = solve(matrices)
        vectors[3] = vectors[3].roll(1, dims=-1)  # orthonormal, but no eigenvectors in this order
        vectors[5, :, 0] = vectors[5, :, 1]  # not orthonormal
        vectors[7] = torch.nan
        return values, vectors

    monkeypatch.setattr(torch.linalg, "eigh", broken)
    values, vectors = batched.eigh(G)
    torch.testing.assert_close(vectors * values.unsqueeze(1) @ vectors.mT, G, rtol=1e-12, atol=1e-12)


def test_a_solver_that_stays_wrong_is_refused(monkeypatch):
    monkeypatch.setattr(batched, "_TOLERANCE", -1.0)
    with pytest.raises(AdapterBankError, match="came back wrong twice"):
        batched.eigh(grams(2, 3, 3))


def test_nan_is_refused():
    G = grams(4, 3, 3)
    G[2, 1, 1] = torch.nan
    with pytest.raises(AdapterBankError, match="NaN"):
        batched.eigh(G)


def test_chunks_do_not_change_a_bit(monkeypatch):
    G = grams(300, 5, 7)
    whole = batched.eigh(G)
    monkeypatch.setattr(batched, "_CHUNK", 64)
    assert all(torch.equal(a, b) for a, b in zip(whole, batched.eigh(G), strict=True))
