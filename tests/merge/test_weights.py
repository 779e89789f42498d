"""Weights by name and by depth."""

import numpy as np
import pytest

from adapterbank.errors import UsageError
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.weights import layer_of, scheduled
from tests.merge.factories import DIMS, adapter, deltas, digests, run

MODULES = [f"encoder.layer.{layer}.{part}" for layer in range(5) for part in ("q_proj", "mlp.up")]


def weights(rules, modules=MODULES):
    return scheduled(rules, modules, ["a", "b"], [1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.11.mlp.up", 11),
        ("h.0", 0),
        ("layers.3.experts.7.w1", 3),
        ("gpt2.wte", None),
        ("layer1.q", None),
        ("4", 4),
    ],
)
def test_the_layer_is_the_first_number_between_dots(name, layer):
    assert layer_of(name) == layer


def test_without_rules_nothing_is_scheduled():
    assert weights([]) == {}


def test_the_first_rule_that_fits_decides():
    rules = [{"modules": "*.q_proj", "input": "a", "weight": 0.0}, {"modules": "*.layer.1.*", "weight": 5.0}, {"times": 3}]
    found = weights(rules)
    assert found["encoder.layer.0.q_proj"] == (0.0, 6.0)
    assert found["encoder.layer.1.q_proj"] == (0.0, 5.0)
    assert found["encoder.layer.1.mlp.up"] == (5.0, 5.0)
    assert found["encoder.layer.2.mlp.up"] == (3.0, 6.0)


def test_a_module_whose_weights_stay_is_left_out():
    assert weights([{"modules": "re:q_proj$", "input": "b", "weight": 2.0}]) == {}
    assert set(weights([{"modules": r"re:layer\.[01]\.", "times": 0.5}])) == {m for m in MODULES if ".0." in m or ".1." in m}


def test_a_list_goes_by_depth_in_straight_lines():
    found = weights([{"modules": "*.q_proj", "input": "a", "weight": [0.0, 1.0, 0.5]}])
    along = [found.get(m, (1.0, 2.0))[0] for m in MODULES if m.endswith("q_proj")]
    np.testing.assert_allclose(along, np.interp(np.arange(5) / 4, [0.0, 0.5, 1.0], [0.0, 1.0, 0.5]))
    assert all(m.endswith("q_proj") for m in found)
    assert weights([{"times": [0.5]}])["encoder.layer.4.mlp.up"] == (0.5, 1.0)
    assert weights([{"weight": [3, 4]}], ["only.0.q"])["only.0.q"] == (3.0, 3.0)


def test_a_merge_with_a_schedule_is_that_of_each_module_alone():
    adapters, rules = (
        [adapter(1), adapter(2)],
        [{"modules": "blocks.1.*", "weight": 0.0}, {"input": digests(2)[1], "times": [2, 4]}],
    )
    schedules = scheduled(rules, list(DIMS), digests(2), [1.0, 1.0])
    found = deltas(run("task_arithmetic", adapters, conditions=Conditions(schedules=schedules), rank=9).adapter)
    one, two = (deltas(value) for value in adapters)
    np.testing.assert_allclose(found["blocks.0.q"], one["blocks.0.q"] + 2 * two["blocks.0.q"], atol=1e-12)
    assert not found["blocks.1.down"].any()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "expected a rule of modules, input, and weight or times"),
        ({"weight": 1, "times": 2}, "expected a rule"),
        ({"weigth": 1}, "expected a rule"),
        ("q", "expected a rule"),
        ({"weight": "much"}, "expected a number or a list"),
        ({"weight": []}, "expected a number or a list"),
        ({"weight": [1, True]}, "expected a number or a list"),
        ({"weight": float("nan")}, "expected a number or a list"),
        ({"weight": 1, "modules": "re:("}, "modules is no pattern"),
        ({"weight": 1, "modules": 3}, "modules is no pattern"),
        ({"weight": 1, "modules": "decoder.*"}, "'decoder.*' fits none of 10 modules"),
        ({"weight": 1, "input": "c"}, "no adapter of this merge has the digest 'c'"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_named(rule, message):
    with pytest.raises(UsageError) as error:
        weights([rule])
    assert message in str(error.value)


def test_a_list_needs_a_layer():
    with pytest.raises(UsageError, match="'classifier' has no layer number"):
        weights([{"weight": [0.0, 1.0]}], [*MODULES, "classifier"])
    found = weights([{"modules": "classifier", "weight": 1.0}, {"weight": [0.0, 1.0]}], [*MODULES, "classifier"])
    assert found["classifier"] == (1.0, 1.0)
