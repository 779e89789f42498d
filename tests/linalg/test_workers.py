"""Work shared out to threads: results in order, torch's setting put back."""

from __future__ import annotations

import pytest
import torch

from adapterbank.linalg.workers import share_out


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_thread_computes_alone(threads):
    results = []
    share_out(lambda i: (i, torch.get_num_threads()), range(20), results.append)
    assert results == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == threads


def test_a_failure_is_raised_and_the_setting_put_back(threads):
    with pytest.raises(ZeroDivisionError):
        share_out(lambda i: 1 // i, range(3))
    assert torch.get_num_threads() == threads


def test_a_factorisation_has_the_same_bits_on_every_thread(threads):
    """LAPACK's own number of threads is one per thread of ours: one that nobody set splits the work, and rounds otherwise."""
    tall = torch.randn(160, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    share_out(lambda _: torch.linalg.qr(tall).Q, range(6), results.append)
    assert all(torch.equal(Q, results[0]) for Q in results)
    torch.set_num_threads(1)
    assert torch.equal(results[0], torch.linalg.qr(tall).Q)
