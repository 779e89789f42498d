"""Errors through the QR core equal dense ones, also where the two adapters are nearly the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta, delta_error, delta_squared_norm, relative, squared_distance
from tests.lora.make import make_adapter, make_factors, normal, regauged


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.floats(0.1, 4))
def test_norms_and_distances_equal_the_dense_ones(d_out, d_in, rank, scaling):
    f = Factors(normal(rank, d_in, seed=1), normal(d_out, rank, seed=2), scaling)
    g = Factors(normal(2, d_in, seed=3), normal(d_out, 2, seed=4), 0.5)
    assert math.isclose(delta_squared_norm(f), float(delta(f).square().sum()), rel_tol=1e-10)
    assert math.isclose(squared_distance(f, g), float((delta(f) - delta(g)).square().sum()), rel_tol=1e-10)


def test_a_tiny_distance_is_not_lost_in_a_difference_of_squares():
    f = make_factors(1, 20, 15, 4)
    near = Factors(f.A, f.B + 1e-11 * normal(20, 4, seed=9))
    wanted = float((delta(f) - delta(near)).square().sum())
    assert math.isclose(squared_distance(f, near), wanted, rel_tol=1e-3)


def test_the_same_delta_in_another_gauge_has_error_zero():
    adapter = make_adapter(1, scaling=2.0)
    assert delta_error(adapter, regauged(adapter, 5)).total < 1e-14


def test_total_is_the_pooled_quotient_and_modules_have_their_own():
    first, second = make_adapter(1), make_adapter(2)
    found = delta_error(first, second)
    squares = {n: (float((delta(f) - delta(second.modules[n])).square().sum()), float(delta(f).square().sum()))
               for n, f in first.modules.items()}  # fmt: skip
    assert found.total == pytest.approx(math.sqrt(sum(e for e, _ in squares.values()) / sum(n for _, n in squares.values())))
    assert found.modules == pytest.approx({name: math.sqrt(e / n) for name, (e, n) in squares.items()})


def test_a_module_only_one_side_has_counts_as_zeros():
    full, part = make_adapter(1), make_adapter(1, skip=["block.0.q"])
    assert delta_error(full, part).modules == pytest.approx({"block.0.q": 1.0, "block.0.v": 0.0, "block.1.out": 0.0})
    assert delta_error(part, full).modules["block.0.q"] == math.inf


def test_nothing_over_nothing_is_zero():
    zero = Adapter({"m": Factors(torch.ones(2, 3), torch.zeros(4, 2))})
    assert delta_error(zero, zero).total == 0.0
    assert relative(0.0, 0.0) == 0.0 and relative(1.0, 0.0) == math.inf
