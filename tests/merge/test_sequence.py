"""OPCM: what a step leaves out, the state it hands on, and one more adapter into a merge that is there."""

import numpy as np
import pytest
import torch

from adapterbank.merge.core import LowRank
from adapterbank.merge.extend import extend
from adapterbank.merge.methods.opcm import State, cleaned
from tests.merge.factories import adapter, deltas, distance, run
from tests.merge.references_free import norm

FIVE = [adapter(seed, 4, scaling=scale) for seed, scale in zip(range(1, 6), (1.0, 2.0, 0.5, 1.5, 1.0), strict=True)]


def thin(seed, d_out=12, d_in=9, rank=4):
    draw = torch.Generator().manual_seed(seed)
    return LowRank(*(torch.randn(d, rank, generator=draw, dtype=torch.float64) for d in (d_out, d_in)))


def dense(matrix):
    return (matrix.left @ matrix.right.T).numpy()


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1.0])
def test_what_is_added_is_orthogonal_to_the_merge_and_leaves_its_leading_block_clear(alpha):
    M, tau = thin(1), thin(2)
    added = dense(cleaned(M, tau, alpha))
    assert abs((added * dense(M)).sum()) < 1e-10 * np.linalg.norm(dense(M)) * np.linalg.norm(added)
    U, S, Vh = np.linalg.svd(dense(M))
    P = U.T @ added @ Vh.T
    block = int((np.cumsum(S[:4]) / S.sum() <= alpha + 1e-12).sum())
    assert np.abs(P[:block, :block]).max(initial=0.0) < 1e-12
    assert np.abs(np.diag(P)[:4]).max() < 1e-12
    np.testing.assert_allclose(P[4:], (U.T @ dense(tau) @ Vh.T)[4:], atol=1e-12)


@pytest.mark.parametrize("k_max", [0, 2, 20])
def test_the_merge_has_the_mean_norm_of_what_went_in(k_max):
    merged = run("opcm", FIVE, [1.0, -2.0, 1.0, 0.0, 1.0], options={"k_max": k_max}, rank=20)
    norms = [abs(w) * norm(deltas(value)) for w, value in zip([1, -2, 1, 0, 1], FIVE, strict=True) if w]
    assert norm(deltas(merged.adapter)) == pytest.approx(sum(norms) / 4)
    state = State.of(next(iter(merged.facts.values())))
    assert (state.count, state.mean_norm) == (4, pytest.approx(sum(norms) / 4))
    assert State.of(state.facts()) == state


def test_uncut_nothing_is_lost_and_a_cut_reports_what_it_lost():
    assert run("opcm", FIVE[:2], options={"k_max": 8}, rank=8).report["truncated"] < 1e-7
    assert 0.1 < run("opcm", FIVE[:2], options={"k_max": 2}).report["truncated"] < 1.0


@pytest.mark.parametrize("options", [{}, {"alpha": 0.8, "k_max": 3}])
def test_one_more_adapter_into_a_merge_is_the_merge_of_all(options):
    before = run("opcm", FIVE[:3], options=options)
    state = State.of(next(iter(before.facts.values())))
    added = extend(before.adapter, state, FIVE[3], weight=0.5, dtype=torch.float64, **options)
    added = extend(added.adapter, added.state, FIVE[4], dtype=torch.float64, **options)
    whole = run("opcm", FIVE, [1.0, 1.0, 1.0, 0.5, 1.0], options=options)
    assert distance(deltas(added.adapter), deltas(whole.adapter)) < 1e-10
    assert added.state.facts() == pytest.approx(next(iter(whole.facts.values())))
    assert added.residual == pytest.approx(whole.report["truncated"])
    assert added.adapter.rank == before.adapter.rank


def test_an_extension_takes_modules_that_the_merge_did_not_have():
    first, second = adapter(1, skip=["blocks.0.q"]), adapter(2, skip=["blocks.1.down"])
    state = State.of(next(iter(run("opcm", [first]).facts.values())))
    added = extend(first, state, second, dtype=torch.float64)
    assert distance(deltas(added.adapter), deltas(run("opcm", [first, second]).adapter)) < 1e-10


def test_the_order_counts():
    assert distance(deltas(run("opcm", FIVE[::-1]).adapter), deltas(run("opcm", FIVE).adapter)) > 0.1
