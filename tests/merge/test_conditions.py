"""What a merge is given beside adapters and weights: absent modules, schedules, preparations, artefacts."""

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, IntegrityError, NotFoundError, UsageError
from adapterbank.merge.artefacts import Coefficients, Statistics, from_object
from adapterbank.merge.conditions import Conditions
from tests.merge.factories import DIMS, adapter, deltas, distance, run

THREE = [adapter(1), adapter(2, skip=["blocks.0.q"]), adapter(3)]


def test_absent_modules_count_as_zero_or_their_weight_is_shared():
    zero, shared = (
        deltas(run("average", THREE, [1.0, 2.0, 1.0], conditions=Conditions(absent=absent), rank=9).adapter)
        for absent in ("zero", "renormalize")
    )
    here = (deltas(THREE[0])["blocks.0.q"] + deltas(THREE[2])["blocks.0.q"]) / 4
    np.testing.assert_allclose(zero["blocks.0.q"], here, atol=1e-12)
    np.testing.assert_allclose(shared["blocks.0.q"], 2 * here, atol=1e-12)
    assert distance({"up": zero["blocks.0.up"]}, {"up": shared["blocks.0.up"]}) == 0.0


def test_ties_leaves_an_absent_adapter_out_of_the_module_in_either_scope():
    for scope in ("module", "model"):
        options = {"density": 1.0, "scope": scope}
        merged = run("ties", THREE, options=options, conditions=Conditions(absent="renormalize"), rank=9)
        pair = run("ties", [THREE[0], THREE[2]], options=options, rank=9)
        assert distance({"q": deltas(merged.adapter)["blocks.0.q"]}, {"q": 1.5 * deltas(pair.adapter)["blocks.0.q"]}) < 1e-7


def test_absent_modules_can_be_refused():
    with pytest.raises(IncompatibleError, match=r"lacks 1 of 3 modules, among them 'blocks\.0\.q'"):
        run("average", THREE, conditions=Conditions(absent="refuse"))
    with pytest.raises(UsageError, match="absent: got 'maybe'"):
        run("average", THREE, conditions=Conditions(absent="maybe"))


def test_a_schedule_holds_in_its_module_only():
    two = [adapter(1), adapter(2)]
    merged = run("task_arithmetic", two, conditions=Conditions(schedules={"blocks.0.up": [0.0, 2.0]}), rank=9)
    found = deltas(merged.adapter)
    np.testing.assert_allclose(found["blocks.0.up"], 2 * deltas(two[1])["blocks.0.up"], atol=1e-12)
    np.testing.assert_allclose(found["blocks.0.q"], deltas(two[0])["blocks.0.q"] + deltas(two[1])["blocks.0.q"], atol=1e-12)


def test_artefacts_come_back_from_their_bytes():
    gram = Statistics("gram", "ab" * 32, {"0": torch.eye(3)}, {"q": "0", "k": "0"}, {"examples": 5})
    found = from_object(bytearray(gram.to_object()))
    assert isinstance(found, Statistics) and (found.kind, found.adapter, found.about) == ("gram", "ab" * 32, {"examples": 5})
    assert torch.equal(found.of("k"), torch.eye(3)) and gram.to_object() == found.to_object()
    with pytest.raises(NotFoundError, match="nothing for module 'v'"):
        found.of("v")
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    learned = Coefficients(("a", "b"), tuple(DIMS)[:2], values, {"seed": 1}, {"blocks.0.q": torch.ones(2, 3)})
    again = from_object(bytearray(learned.to_object()))
    assert isinstance(again, Coefficients) and again.of("blocks.0.up") == {"a": 2.0, "b": 4.0}
    assert again.to_object() == learned.to_object() and torch.equal(again.units["blocks.0.q"], torch.ones(2, 3).double())


def test_other_objects_are_no_artefacts():
    data = bytearray(Statistics("gram", "a", {}, {}).to_object().replace(b"merge.statistics", b"merge.statistical"[:16]))
    with pytest.raises(IntegrityError):
        from_object(data)
