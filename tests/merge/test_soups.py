"""Weights from metrics, and soups that are chosen by them."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.errors import UsageError
from adapterbank.merge.greedy import greedy
from adapterbank.merge.metrics import metric_weights

FORMS = ["power", "softmax", "penalty"]
METRICS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8)


def weights(metrics, form, beta=1.0, larger=False):
    return metric_weights(metrics, form=form, beta=beta, larger_is_better=larger)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(metrics=METRICS, beta=st.floats(0.0, 20.0), larger=st.booleans())
def test_they_sum_to_1_and_a_better_metric_never_weighs_less(form, metrics, beta, larger):
    found = weights(metrics, form, beta, larger)
    assert sum(found) == pytest.approx(1.0)
    order = sorted(zip(metrics, found, strict=True), reverse=not larger)
    assert all(worse[1] <= better[1] * (1 + 1e-12) for worse, better in pairwise(order))


@pytest.mark.parametrize("form", FORMS)
def test_the_two_limits(form):
    assert weights([0.2, 0.5, 0.9], form, 0.0) == pytest.approx([1 / 3] * 3)
    assert weights([0.2, 0.5, 0.9], form, 1e9 if form == "penalty" else 600.0) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert weights([0.2, 0.9, 0.9], form, 1e9 if form == "penalty" else 600.0, True) == pytest.approx([0.0, 0.5, 0.5], abs=1e-6)


def test_by_hand():
    assert weights([1.0, 3.0], "power") == pytest.approx([3 / 4, 1 / 4])
    assert weights([1.0, 3.0], "power", 2.0, True) == pytest.approx([1 / 10, 9 / 10])
    assert weights([1.0, 3.0], "penalty") == pytest.approx([3 / 4, 1 / 4])  # a gap of 2σ
    assert weights([1.0, 3.0], "softmax") == pytest.approx([0.880797, 0.119203], abs=1e-6)  # 1 / (1 + e⁻²)


@pytest.mark.parametrize("form", FORMS)
def test_the_unit_of_the_metric_does_not_matter(form):
    metrics = [0.3, 0.4, 1.7]
    assert weights([8.0 * m for m in metrics], form) == pytest.approx(weights(metrics, form))
    if form != "power":
        assert weights([m - 5.0 for m in metrics], form) == pytest.approx(weights(metrics, form))


@pytest.mark.parametrize("form", FORMS)
def test_equal_metrics_and_a_single_one(form):
    assert weights([0.7] * 4, form, 3.0) == pytest.approx([0.25] * 4)
    assert weights([0.7], form, 3.0) == (1.0,)


@pytest.mark.parametrize(
    ("metrics", "form", "beta", "message"),
    [
        ([], "softmax", 1.0, "no metrics"),
        ([0.1, float("nan")], "softmax", 1.0, "finite numbers, got nan"),
        ([0.1, float("inf")], "penalty", 1.0, "finite numbers, got inf"),
        ([0.1, 0.2], "penalty", -1.0, "beta: got -1.0"),
        ([0.1, 0.0], "power", 1.0, "above 0, got 0.0"),
        ([0.1, -2.0], "power", 1.0, "above 0, got -2.0"),
    ],
)
def test_what_cannot_be_weighed_is_refused(metrics, form, beta, message):
    with pytest.raises(UsageError, match=message):
        weights(metrics, form, beta)


VALUES = {"a": 0.9, "b": 0.8, "c": 0.7, "ab": 0.85, "ac": 0.95, "acb": 0.9, "abc": 0.1}


def evaluate(names):
    return VALUES["".join(names)]


def test_a_greedy_soup_keeps_what_does_no_harm():
    soup = greedy({"c": 0.7, "a": 0.9, "b": 0.8}, evaluate)
    assert (soup.kept, soup.score) == (("a", "c"), 0.95)
    assert [(step.name, step.kept) for step in soup.trace] == [("a", True), ("b", False), ("c", True)]
    assert soup.weights(("c", "b", "a")) == (1.0, 0.0, 1.0)


def test_by_a_loss_the_smallest_comes_first():
    soup = greedy({"c": 0.3, "a": 0.1, "b": 0.2}, evaluate, larger_is_better=False)
    assert (soup.kept, soup.score) == (("a", "c"), 0.95)


def test_equal_values_are_added_and_equal_metrics_go_by_name():
    seen = []
    soup = greedy({"b": 1.0, "a": 1.0}, lambda names: seen.append(names) or 0.5)
    assert soup.kept == ("a", "b")
    assert seen == [("a",), ("a", "b")]


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=6), noise=st.floats(0, 0.5))
def test_a_soup_is_never_worse_than_its_best_member(scores, noise):
    metrics = {f"n{i}": score for i, score in enumerate(scores)}

    def mean(names):
        return sum(metrics[name] for name in names) / len(names) - noise * (len(names) > 1)

    assert greedy(metrics, mean).score >= max(scores)


def test_an_empty_soup_and_a_value_that_is_no_number_are_refused():
    with pytest.raises(UsageError, match="no adapters for a greedy soup"):
        greedy({}, evaluate)
    with pytest.raises(UsageError, match="evaluation of a gave nan"):
        greedy({"a": 1.0}, lambda names: float("nan"))
