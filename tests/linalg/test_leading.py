"""The leading triplets of dense matrices against a full decomposition, and that nothing depends on threads."""

import numpy as np
import pytest
import torch

from adapterbank.linalg import leading as leading_module
from adapterbank.linalg.leading import leading, row_space, squared_norm
from tests.linalg.factories import random


def noisy(m: int, n: int, values: list[float], noise: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Singular values ``values`` and noise of that size in every entry."""
    U, V = (torch.linalg.qr(random(side, len(values), seed=side)).Q for side in (m, n))
    return ((U * torch.tensor(values, dtype=torch.float64)) @ V.T + noise * random(m, n, seed=3)).to(dtype)


CASES = {
    "tall": noisy(1100, 800, [50.0, 40.0, 30.0, 20.0], 0.3),
    "wide": noisy(800, 1100, [50.0, 40.0, 30.0, 20.0], 0.3),
    "equal values at the cut": noisy(800, 700, [20.0] * 12, 0.2),
    "steep": noisy(800, 700, [10.0**-place for place in range(12)], 1e-9, torch.float64),
    "flat noise": noisy(1200, 1200, [1.0], 1.0),
}


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("case", CASES)
def test_the_residual_is_within_a_thousandth_of_the_least(case, rank):
    matrix = CASES[case]
    found = leading(matrix, rank)
    assert found is not None
    U, S, V = found
    least = np.linalg.svd(matrix.double().numpy(), compute_uv=False)[rank:]
    residual = float((matrix.double() - (U * S) @ V.T).norm())
    assert residual <= 1.001 * np.sqrt((least**2).sum()) + 1e-6 * float(matrix.norm())
    for basis in (U, V):
        np.testing.assert_allclose((basis.T @ basis).numpy(), np.eye(rank), atol=1e-12)


@pytest.mark.parametrize("rank", [2, 5])
def test_an_exact_rank_is_found_and_directions_beyond_it_have_nothing(rank):
    matrix = noisy(700, 600, [3.0, 2.0], 0.0)
    U, S, V = leading(matrix, rank)
    np.testing.assert_allclose(S.numpy(), [3.0, 2.0, 0.0, 0.0, 0.0][:rank], atol=1e-5)
    assert float((matrix - (U * S) @ V.T).norm()) < 1e-4


def test_zero_has_no_values():
    found = leading(torch.zeros(600, 700), 3)
    assert found is not None
    assert not found[1].any()


def products(monkeypatch, matrix, rank, start=None):
    """The residual that is left, and how many blocks the matrix was multiplied with."""
    blocks = []
    times = leading_module._times
    monkeypatch.setattr(leading_module, "_times", lambda m, block: blocks.append(block) or times(m, block))
    U, S, V = leading(matrix, rank, start)
    return float((matrix.double() - (U * S) @ V.T).norm()), len(blocks)


@pytest.mark.parametrize("width", [12, 200])
def test_a_start_that_resembles_the_matrix_saves_products(width, monkeypatch):
    """Whether it is the whole row space or a sketch of it."""
    left, right = random(1400, width), random(1200, width, seed=1)
    sizes = torch.logspace(0, -2, width, dtype=torch.float64)
    matrix = (left * sizes @ right.T + 3.0 * random(1400, 1200, seed=2)).float()
    least = float(torch.linalg.svdvals(matrix.double())[8:].norm())
    start = row_space(left * sizes, right, 8)
    assert start.shape[1] == min(width, 56)
    cold, many = products(monkeypatch, matrix, 8)
    warm, few = products(monkeypatch, matrix, 8, start)
    assert few < many
    assert max(cold, warm) <= 1.001 * least


def test_a_start_without_the_strongest_direction_does_not_hide_it():
    matrix = CASES["tall"]
    start = torch.linalg.svd(matrix.double(), full_matrices=False).Vh[1:].T[:, :20]
    U, S, V = leading(matrix, 4, start)
    least = float(torch.linalg.svdvals(matrix.double())[4:].norm())
    assert float((matrix.double() - (U * S) @ V.T).norm()) <= 1.001 * least


def test_a_row_space_leaves_out_what_has_no_part_in_the_product():
    left, right = random(40, 6), random(30, 6, seed=1)
    left[:, 2:4] = 0.0
    assert torch.equal(row_space(left, right, 3), right[:, [0, 1, 4, 5]])


def test_a_rank_near_the_side_is_left_to_others():
    assert leading(random(300, 300), 100) is None


def test_threads_change_no_bit():
    matrix, before = CASES["wide"], torch.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append((*leading(matrix, 4), *leading(matrix, 4, random(1100, 20)), torch.tensor(squared_norm(matrix))))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
