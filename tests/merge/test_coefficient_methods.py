"""Methods that merge by learned coefficients: one sum, checked against loops, by hand, and at its limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import METHODS
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.preparation import Prepare
from tests.merge import references_coefficients as references
from tests.merge.artefacts import ARTEFACTS
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

UNLIKE = [
    adapter(1, 3, scaling=2.0),
    adapter(2, 4, scaling=0.5, ranks={"blocks.0.up": 2}),
    adapter(3, 2, scaling=1.5, skip=["blocks.0.q"]),
    adapter(4, 5, scaling=1.0, skip=["blocks.1.down"]),
]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]


def given(coefficients):
    return Conditions(artefacts=(coefficients,))


def paired(adapters):
    return {
        m: [((f := a.modules[m]).scaling * f.B.numpy(), f.A.numpy()) if m in a.modules else None for a in adapters]
        for m in DIMS
    }


def test_every_method_that_needs_coefficients_is_tested_here():
    assert {name for name, method in METHODS.items() if method.kind == "coefficients"} == set(references.ON_FACTORS)
    assert all(METHODS[name].needs == ("coefficients",) for name in references.ON_FACTORS)
    assert set(references.ON_FACTORS) <= ARTEFACTS.keys()


@pytest.mark.parametrize("name", references.ON_FACTORS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_equals_its_reference_whatever_the_order_of_the_coefficients(name, order):
    coefficients = references.made_up([digests(4)[i] for i in order], sorted(DIMS), name)
    expected = references.weighted_sum(paired(UNLIKE), WEIGHTS, digests(4), coefficients)
    merged = run(name, UNLIKE, WEIGHTS, rank=9, conditions=given(coefficients))  # 9 = the smaller side: nothing is cut
    assert distance(deltas(merged.adapter), expected) < 1e-12


def of_matrix(matrix):
    return Adapter({"m": Factors(A=torch.eye(2, dtype=torch.float64), B=torch.tensor(matrix, dtype=torch.float64))})


FIRST, SECOND = [[4.0, -1.0], [2.0, 0.0]], [[-2.0, -3.0], [2.0, 1.0]]


@pytest.mark.parametrize("name", references.ON_FACTORS)
def test_by_hand(name):
    """2·FIRST − SECOND; a unit of these factors is a column, and the masks halve one column and leave out another."""
    values = torch.tensor([[2.0], [-0.5]]).double()
    masks = {"m": torch.tensor([[1.0, 0.5], [2.0, 0.0]]).double()} if name == "dam_rank_masks" else {}
    coefficients = Coefficients(tuple(digests(2)), ("m",), values, {"method": name}, masks)
    merged = run(name, [of_matrix(FIRST), of_matrix(SECOND)], [1.0, 2.0], conditions=given(coefficients))
    plain, masked = [[10.0, 1.0], [2.0, -1.0]], [[12.0, -1.0], [0.0, 0.0]]
    np.testing.assert_allclose(deltas(merged.adapter)["m"], masked if masks else plain, atol=1e-12)


def test_equal_coefficients_are_task_arithmetic_and_one_of_them_is_that_adapter():
    equal = Coefficients(tuple(digests(4)), tuple(sorted(DIMS)), torch.full((4, 3), 0.3).double())
    merged = run("adamerging", UNLIKE, rank=9, conditions=given(equal))
    expected = run("task_arithmetic", UNLIKE, options={"scale": float(equal.values[0, 0])}, rank=9)
    assert distance(deltas(merged.adapter), deltas(expected.adapter)) < 1e-12
    one = Coefficients(tuple(digests(4)), tuple(sorted(DIMS)), torch.eye(4)[:, :1].expand(-1, 3).double())
    alone = run("map", UNLIKE, conditions=given(one))
    assert distance(deltas(alone.adapter), deltas(UNLIKE[0])) < 1e-12


def test_a_merge_without_one_adapter_takes_the_coefficients_of_the_others():
    coefficients = references.made_up(digests(4), sorted(DIMS), "m2n2")
    smaller = run("m2n2", UNLIKE[1:], names=digests(4)[1:], rank=9, conditions=given(coefficients))
    expected = run("m2n2", UNLIKE, [0.0, 1.0, 1.0, 1.0], rank=9, conditions=given(coefficients))
    assert distance(deltas(smaller.adapter), deltas(expected.adapter)) < 1e-12


@pytest.mark.parametrize("name", references.ON_FACTORS)
def test_what_is_missing_is_named_with_the_command_that_makes_it(name):
    command = f"adapterbank calibrate {name} REF… --with FILE.py:FUNCTION"
    names, modules = digests(4), sorted(DIMS)
    statistics = ARTEFACTS["regmean"](names, DIMS, {})
    with pytest.raises(UsageError, match=f"{name} needs coefficients, got none") as caught:
        run(name, UNLIKE, conditions=Conditions(artefacts=tuple(statistics)))
    assert caught.value.hint == command
    with pytest.raises(UsageError, match=f"none for adapter {names[3][:12]}") as caught:
        run(name, UNLIKE, conditions=given(references.made_up(names[:3], modules, name)))
    assert caught.value.hint == command
    with pytest.raises(UsageError, match=r"none for 1 modules, among them 'blocks\.1\.down'"):
        run(name, UNLIKE, conditions=given(references.made_up(names, modules[:2], name)))


def test_coefficients_of_another_method_are_refused_and_unsigned_ones_taken():
    learned = references.made_up(digests(4), sorted(DIMS), "frank_wolfe")
    with pytest.raises(UsageError, match="adamerging: got coefficients of frank_wolfe"):
        run("adamerging", UNLIKE, conditions=given(learned))
    written = replace(learned, about={})
    first, second = (run(name, UNLIKE, conditions=given(written)) for name in ("adamerging", "map"))
    assert distance(deltas(first.adapter), deltas(second.adapter)) == 0.0


def test_masks_belong_to_the_factors_as_they_are():
    masked = references.made_up(digests(4), sorted(DIMS), "dam_rank_masks", width=4)
    with pytest.raises(IncompatibleError, match="got 4 per adapter, expected at least 5"):
        run("dam_rank_masks", UNLIKE, conditions=given(masked))
    prepared = replace(given(masked), prepare=(Prepare.of("pico"),))
    with pytest.raises(UsageError, match="preparations"):
        run("dam_rank_masks", UNLIKE[:2], names=digests(2), conditions=prepared)
