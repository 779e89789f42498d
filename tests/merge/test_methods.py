"""Each method against its independent float64 reference, and against a 2×2 case computed by hand."""

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import METHODS
from tests.merge import references, references_coefficients, references_free, references_lora, references_statistics
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

UNLIKE = [
    adapter(1, 3, scaling=2.0),
    adapter(2, 4, scaling=0.5, ranks={"blocks.0.up": 2}),
    adapter(3, 2, scaling=1.5, skip=["blocks.0.q"]),
    adapter(4, 5, scaling=1.0, skip=["blocks.1.down"]),
]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]
OPTIONS = {
    "task_arithmetic": [{"scale": -0.8}],
    "ties": [
        {"density": 0.5, "scale": 0.7},
        {"density": 1.0, "normalize": "weights"},
        {"density": 0.3, "scope": "model"},
        {"density": 0.003},
    ],
    "dare_linear": [{"density": 0.1, "scale": 1.0}],
    "dare_ties": [{"density": 0.7, "normalize": "weights", "scale": 2.0}],
}
CASES = [(name, options) for name in references.ON_DELTAS for options in [{}, *OPTIONS.get(name, [])]]


def stacked(adapters):
    """Dense deltas by module, one of zeros for every adapter that lacks it."""
    each = [deltas(value) for value in adapters]
    return {m: [d.get(m, np.zeros(DIMS[m])) for d in each] for m in DIMS}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equals_its_dense_reference(name, options):
    expected = references.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 11, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, seed=11, rank=9)  # 9 = the smaller side: nothing is cut
    assert merged.residual < 1e-7
    # eigenvectors of a Gram matrix find a direction to √ε of the largest one
    assert distance(deltas(merged.adapter), expected) < (1e-7 if METHODS[name].kind == "elementwise" else 1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("rank", [None, 1, 2])
def test_the_cut_and_its_residual_are_those_of_an_svd(name, options, rank):
    dense = references.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 0, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, rank=rank)
    largest = {m: max(a.modules[m].rank for a in UNLIKE if m in a.modules) for m in DIMS}
    ranks = {m: 99 if name == "cat" and rank is None else rank or largest[m] for m in DIMS}
    expected = {m: references.cut(dense[m], ranks[m]) for m in DIMS}
    assert distance(deltas(merged.adapter), expected) < 1e-7
    assert merged.residual == pytest.approx(distance(expected, dense), rel=1e-7, abs=1e-7)
    for m in DIMS:
        assert merged.module_residuals[m] == pytest.approx(distance({m: expected[m]}, {m: dense[m]}), rel=1e-7, abs=1e-7)


def test_linear_factors_equals_its_reference_and_reports_its_cross_terms():
    adapters, weights = [adapter(seed, 3, scaling=seed) for seed in (1, 2, 3)], [1.0, 2.0, -0.5]
    pairs = {m: [((f := a.modules[m]).scaling * f.B.numpy(), f.A.numpy()) for a in adapters] for m in DIMS}
    merged = run("linear_factors", adapters, weights)
    assert distance(deltas(merged.adapter), references.linear_factors(pairs, weights)) < 1e-13
    true = references.average(stacked(adapters), weights, [], 0)
    assert merged.report["cross_term_error"] == pytest.approx(distance(deltas(merged.adapter), true), rel=1e-10)


def test_linear_factors_counts_an_absent_module_as_zero_factors():
    merged = run("linear_factors", [adapter(1), adapter(2, skip=["blocks.0.q"])])
    expected = deltas(adapter(1))["blocks.0.q"] / 4
    assert distance({"q": deltas(merged.adapter)["blocks.0.q"]}, {"q": expected}) < 1e-13


def test_linear_factors_refuses_unequal_ranks_and_names_them():
    with pytest.raises(IncompatibleError, match=r"blocks\.0\.q.*\[2, 3\]"):
        run("linear_factors", [adapter(1, 3), adapter(2, 2)])


@pytest.mark.parametrize("name", ["average", "linear_factors"])
def test_weights_that_sum_to_zero_have_no_mean(name):
    with pytest.raises(UsageError, match="sum to 0"):
        run(name, [adapter(1), adapter(2)], [1.0, -1.0])


def test_adapters_that_cancel_leave_exact_zeros_and_no_residual():
    merged = run("svd", [adapter(1), adapter(1)], [1.0, -1.0])
    assert merged.residual == 0.0
    assert all(not f.A.any() and not f.B.any() for f in merged.adapter.modules.values())


def test_a_small_adapter_beside_a_large_one_is_not_taken_for_noise():
    large = Factors(A=torch.eye(2, 4, dtype=torch.float64) * 1e6, B=torch.eye(3, 2, dtype=torch.float64) * 1e-6)
    small = Factors(A=torch.ones(1, 4, dtype=torch.float64) * 1e-6, B=torch.ones(3, 1, dtype=torch.float64) * 1e6)
    merged = run("svd", [Adapter({"m": large}), Adapter({"m": small})], rank=3)
    assert distance(deltas(merged.adapter), {"m": np.eye(3, 4) * [1, 1, 0, 0] + 1.0}) < 1e-9


FIRST, SECOND = [[4.0, -1.0], [2.0, 0.0]], [[-2.0, -3.0], [2.0, 1.0]]
# By hand: trimmed to 2 of 4 entries FIRST is [[4, 0], [2, 0]] and SECOND [[-2, -3], [2, 0]] (two entries of size 2: both stay);
# their sum [[2, -3], [4, 0]] elects + − +; the means over the agreeing entries are 4, −3 and 2.
BY_HAND = [
    ("average", [1, 3], {}, [[-0.5, -2.5], [2.0, 0.75]]),
    ("task_arithmetic", [1, -1], {"scale": 0.5}, [[3.0, 1.0], [0.0, -0.5]]),
    ("cat", [2, 1], {}, [[6.0, -5.0], [6.0, 1.0]]),
    ("svd", [1, 1], {}, [[2.0, -4.0], [4.0, 1.0]]),
    ("ties", [1, 1], {"density": 0.5, "scale": 2.0}, [[8.0, -6.0], [4.0, 0.0]]),
    ("ties", [1, 1], {"density": 1.0}, [[4.0, -2.0], [2.0, 1.0]]),
    ("ties", [2, 1], {"density": 1.0, "normalize": "weights"}, [[4.0, -5 / 3], [2.0, 1.0]]),
    # The masks of seed 184, module "m", density 0.5 are [[1, 1], [0, 1]] and [[0, 1], [1, 0]]; kept entries are doubled.
    ("dare_linear", [1, 1], {"scale": 0.5}, [[4.0, -4.0], [2.0, 0.0]]),
    ("dare_ties", [1, 1], {}, [[8.0, -4.0], [4.0, 0.0]]),
]


def of_matrix(matrix):
    return Adapter({"m": Factors(A=torch.eye(2, dtype=torch.float64), B=torch.tensor(matrix, dtype=torch.float64))})


@pytest.mark.parametrize(("name", "weights", "options", "expected"), BY_HAND)
def test_by_hand(name, weights, options, expected):
    merged = run(name, [of_matrix(FIRST), of_matrix(SECOND)], weights, options=options, seed=184)
    np.testing.assert_allclose(deltas(merged.adapter)["m"], expected, atol=1e-7)


def test_the_factors_apart_by_hand():
    one = Adapter({"m": Factors(A=torch.tensor([[1.0, 0.0]]), B=torch.tensor([[1.0], [0.0]]))})
    two = Adapter({"m": Factors(A=torch.tensor([[0.0, 1.0]]), B=torch.tensor([[0.0], [1.0]]))})
    merged = run("linear_factors", [one, two])
    np.testing.assert_allclose(deltas(merged.adapter)["m"], [[0.25, 0.25], [0.25, 0.25]])
    assert merged.report["cross_term_error"] == pytest.approx(0.5**0.5)


def test_the_cut_by_hand():
    merged = run("svd", [of_matrix([[4.0, 0.0], [0.0, 0.0]]), of_matrix([[0.0, 0.0], [0.0, 3.0]])], rank=1)
    np.testing.assert_allclose(deltas(merged.adapter)["m"], [[4.0, 0.0], [0.0, 0.0]], atol=1e-12)
    assert merged.residual == pytest.approx(3 / 5)


def test_no_method_is_without_a_reference_and_a_case_by_hand():
    elsewhere = {
        *references_lora.ON_DELTAS,
        *references_lora.ON_FACTORS,
        *references_free.NAMES,
        *references_statistics.ON_DELTAS,
        *references_coefficients.ON_FACTORS,
    }  # their own files ask for cases
    assert {*references.ON_DELTAS, "linear_factors"} == set(METHODS) - elsewhere
    assert {case[0] for case in BY_HAND} | {"linear_factors"} == set(METHODS) - elsewhere


@pytest.mark.parametrize("scope", ["module", "model"])
def test_entries_that_cancel_take_the_majority_sign(scope):
    """Entry (0, 0) cancels; elsewhere the sum is negative, so the negative one of the two stays."""
    one, two = of_matrix([[3.0, -1.0], [-1.0, 0.0]]), of_matrix([[-3.0, -1.0], [-1.0, 0.0]])
    merged = run("ties", [one, two], options={"density": 1.0, "scope": scope})
    np.testing.assert_allclose(deltas(merged.adapter)["m"], [[-3.0, -1.0], [-1.0, 0.0]], atol=1e-7)


def test_the_majority_of_the_model_outvotes_that_of_the_module():
    def pair(corner):
        return Adapter(
            {"a": of_matrix([[corner, 1.0], [0.0, 0.0]]).modules["m"], "b": of_matrix([[-1.0, -1.0], [-1.0, 0.0]]).modules["m"]}
        )

    adapters = [pair(3.0), pair(-3.0)]
    by_module = run("ties", adapters, options={"density": 1.0})
    by_model = run("ties", adapters, options={"density": 1.0, "scope": "model"})
    np.testing.assert_allclose(deltas(by_module.adapter)["a"], [[3.0, 1.0], [0.0, 0.0]], atol=1e-7)
    np.testing.assert_allclose(deltas(by_model.adapter)["a"], [[-3.0, 1.0], [0.0, 0.0]], atol=1e-7)


def test_the_expectation_of_dare_is_task_arithmetic():
    expected = deltas(run("task_arithmetic", UNLIKE, WEIGHTS, rank=9).adapter)
    draws = [deltas(run("dare_linear", UNLIKE, WEIGHTS, rank=9, seed=seed).adapter) for seed in range(60)]
    mean = {m: sum(draw[m] for draw in draws) / len(draws) for m in expected}
    assert distance(draws[0], expected) > 0.5
    assert distance(mean, expected) < 0.2  # 1/√60 of one draw's deviation of about 1


def test_dare_depends_on_the_seed_and_on_the_adapters_digest():
    first = deltas(run("dare_linear", UNLIKE).adapter)
    assert distance(deltas(run("dare_linear", UNLIKE, seed=1).adapter), first) > 0.1
    assert distance(deltas(run("dare_linear", UNLIKE, names=digests(8)[4:]).adapter), first) > 0.1
