"""The benchmark of merges at a toy size: what it holds the results against, and what it makes of its figures."""

import pytest
import torch

from benchmarks.harness import Spread
from benchmarks.merging import dense, once, speed


@pytest.mark.parametrize("way", dense.MERGES)
@pytest.mark.parametrize("side", [96, 576])
def test_our_merges_are_close_to_the_best_of_a_dense_one(way, side):
    found = once.accuracy(way, 3, side)
    assert 0.999 < found["over_least"] < speed.CLOSE
    assert 0.0 < found["residual"] < 1.0


def test_peft_and_we_are_given_the_same_adapters():
    adapters = [once.factors(number, 24) for number in range(3)]
    expected = sum(f.B @ f.A for f in adapters)
    merged = once.ours("cat", 3, 24)().adapter.modules["m"]
    torch.testing.assert_close(merged.B @ merged.A, expected, atol=1e-5, rtol=1e-5)
    model = once.peft_model(3, 24)
    once.peft_merge(model, "cat", 3)
    torch.testing.assert_close(model.base_model.model.m.get_delta_weight("merged"), expected, atol=1e-5, rtol=1e-5)


def test_a_measurement_has_seconds_and_the_rise_of_the_peak():
    found = once.timed(lambda: torch.ones(8 << 20).sum())
    assert found["seconds"] > 0.0
    assert 16.0 < found["peak_mib"] < 256.0


def test_targets_follow_from_the_figures():
    row = {"case": "against peft", "way": "svd", "count": 4, "seconds": Spread.of([0.1]), "peak_mib": 5.0}
    row |= {"peft_seconds": 40.0, "peft_peak_mib": 50.0, "faster": 400.0, "over_least": 1.02}
    targets = list(speed._targets([row, {**row, "way": "cat"}, {**row, "case": "by side"}]))
    assert [(target.measured, target.met) for target in targets[:3]] == [(400.0, True), (0.1, True), (1.02, False)]
    assert all("cat" in target.what for target in targets[3:])
