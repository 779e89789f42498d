"""The R factor of a tall matrix, folded together block by block."""

from __future__ import annotations

import pytest
import torch

from adapterbank.linalg import tall


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (2, 5), (5, 5), (7, 3), (64, 4), (100, 4)])
def test_r_has_the_gram_matrix_of_the_whole(monkeypatch, rows, columns):
    monkeypatch.setattr(tall, "_ROWS", 16)
    X = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    R = tall.r_factor(X)
    assert R.shape == (min(rows, columns), columns) and R.dtype == torch.float64
    torch.testing.assert_close(R.T @ R, X.double().T @ X.double(), rtol=1e-12, atol=1e-12)
    assert torch.equal(R, R.triu())


def test_small_singular_values_survive_where_a_gram_matrix_loses_them():
    G = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(200, 4, generator=G, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(4, 4, generator=G, dtype=torch.float64)).Q
    wanted = torch.tensor([1.0, 1e-4, 1e-8, 1e-12], dtype=torch.float64)
    found = torch.linalg.svdvals(tall.r_factor(U * wanted @ V.T))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)
