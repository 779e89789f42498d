"""The table of options: the bytes and errors it promises are those that a build of that size then has."""

from __future__ import annotations

import pytest
import torch

from adapterbank.errors import ErrorBoundError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.rmm import survey as module
from adapterbank.rmm.basis import fit
from adapterbank.rmm.choose import by_budget, by_energy, by_error
from adapterbank.rmm.objects import common_layout
from adapterbank.rmm.survey import Option, Survey, survey
from tests.lora.make import make_adapter
from tests.rmm.build import build

COLLECTIONS = {
    "one rank": [make_adapter(s, 6, 2.0) for s in range(5)],
    "two ranks": [make_adapter(s, 3 + 3 * (s % 2), 2.0) for s in range(6)],
    "absent modules": [make_adapter(s, 6, 2.0, skip=["block.0.v"] if s > 2 else []) for s in range(5)],
    "wide": [make_adapter(s, 3) for s in range(7)],
    "one": [make_adapter(0)],
}


def survey_of(adapters: list[Adapter], gauge: str = "given", **kept: str) -> Survey:
    names = [f"adapter{i}" for i in range(len(adapters))]
    return survey(adapters, common_layout([a.shapes for a in adapters], names), gauge=gauge, **kept)


@pytest.mark.parametrize("collection", list(COLLECTIONS))
@pytest.mark.parametrize("gauge", ["given", "svd", "procrustes"])
def test_every_option_is_what_a_build_gives(collection, gauge):
    adapters = COLLECTIONS[collection]
    found = survey_of(adapters, gauge=gauge)
    for option in found.options:
        built = build(adapters, option.p, gauge)
        assert option.bytes == built.bytes
        assert option.errors == pytest.approx(built.errors(), rel=1e-4, abs=1e-6)
    assert [option.p for option in found.options] == list(range(len(found.options)))
    assert found.options[-1].worst < 1e-6 and found.options[-1].energy == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_errors_are_those_of_the_rounded_values(dtype):
    adapters = COLLECTIONS["one rank"]
    for option in survey_of(adapters, dtype=dtype).options:
        built = build(adapters, option.p, dtype=dtype)
        assert option.bytes == built.bytes
        assert option.errors == pytest.approx(built.errors(), rel=1e-2)


def test_many_prefixes_are_measured_in_several_passes(monkeypatch):
    whole = survey_of(COLLECTIONS["one rank"])
    monkeypatch.setattr(module, "_GRAM_BYTES", 1)
    assert survey_of(COLLECTIONS["one rank"]) == whole


def test_energy_is_the_share_of_the_variance():
    adapters = [Adapter({"m": f.modules["block.0.q"]}) for f in COLLECTIONS["one rank"]]
    stack = torch.stack([torch.cat([2.0 * a.modules["m"].B, a.modules["m"].A.T]) for a in adapters])
    full = fit(stack, 4)
    for option in survey_of(adapters).options:
        assert option.energy == pytest.approx(float(full.energies[: option.p].sum()) / full.energy)


def test_adapters_that_are_all_zero_have_no_error():
    zero = Adapter({"m": Factors(torch.ones(2, 3), torch.zeros(4, 2))})
    assert [option.errors for option in survey_of([zero, zero]).options] == [(0.0, 0.0)] * 2


ERRORS = ((0.9, 1.0), (0.4, 0.6), (0.2, 0.3), (0.0, 1e-7))
OPTIONS = Survey(
    tuple(
        Option(p, 100 * (p + 1), errors, share)
        for (p, errors), share in zip(enumerate(ERRORS), (0, 0.7, 0.95, 1.0), strict=True)
    )
)


def test_mean_and_worst():
    assert (OPTIONS.options[1].mean, OPTIONS.options[1].worst) == (0.5, 0.6)


@pytest.mark.parametrize(("share", "p"), [(0.0, 0), (0.7, 1), (0.71, 2), (1.0, 3)])
def test_by_energy_takes_the_fewest_that_explain_it(share, p):
    assert by_energy(OPTIONS, share).p == p


def test_all_of_the_energy_can_always_be_had():
    for adapters in COLLECTIONS.values():
        assert by_energy(survey_of(adapters), 1.0).worst < 1e-6


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan")])
def test_an_energy_outside_of_0_to_1_is_refused(share):
    with pytest.raises(UsageError, match="between 0 and 1"):
        by_energy(OPTIONS, share)


@pytest.mark.parametrize(("bound", "p"), [(1.0, 0), (0.6, 1), (0.59, 2), (1e-6, 3)])
def test_by_error_looks_at_the_worst_member(bound, p):
    assert by_error(OPTIONS, bound).p == p


def test_an_unreachable_error_says_the_best():
    with pytest.raises(ErrorBoundError, match="within 1e-09: the best is 1e-07 with 3"):
        by_error(OPTIONS, 1e-9)


@pytest.mark.parametrize(("share", "p"), [(0.25, 0), (0.5, 1), (0.99, 2), (1.0, 3), (9.0, 3)])
def test_by_budget_takes_the_most_that_fit(share, p):
    assert by_budget(OPTIONS, share, 400).p == p


def test_an_unreachable_budget_says_the_least():
    with pytest.raises(UsageError, match=r"the mean alone takes 100 bytes \(0.25 of them\)"):
        by_budget(OPTIONS, 0.2, 400)
