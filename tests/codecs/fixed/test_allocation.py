"""The choice of widths against all choices there are; the search for an error against one step by step."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from adapterbank.codecs.fixed.allocation import Options, farthest, options, widths_of
from adapterbank.codecs.fixed.quantizer import WIDTHS
from adapterbank.codecs.fixed.search import Try, coarsest
from adapterbank.codecs.fixed.survey import survey

from .made import factors

MODULE = factors(64, 40, 2, seed=5)


def found() -> Options:
    return options({"m": survey("m", MODULE)}, None)


def test_no_other_choice_of_as_few_bits_does_less_damage() -> None:
    table = found()
    places = np.arange(table.damage.shape[1])
    every = [np.array(choice) for choice in product(range(len(table.damage)), repeat=len(places))]
    damages, bits = (np.array([side[choice, places].sum() for choice in every]) for side in (table.damage, table.bits))
    low, high = table.multipliers
    for multiplier in np.geomspace(low, high, 60):
        chosen = table.choose(multiplier)
        spent = table.bits[chosen, places].sum()
        best = damages[bits <= spent].min()
        assert table.damage[chosen, places].sum() == pytest.approx(best, rel=1e-12)


def test_the_ends_are_all_bits_and_none() -> None:
    table = found()
    low, high = table.multipliers
    assert widths_of(table.choose(low)).tolist() == [[max(WIDTHS)] * 2] * 2
    assert widths_of(table.choose(high)).tolist() == [[0, 0]] * 2
    assert table.error(table.choose(high)) == 1.0


def test_damage_is_that_of_both_sides_together() -> None:
    module = survey("m", MODULE)
    table, widths = options({"m": module}, None), widths_of(np.arange(1 + len(WIDTHS) ** 2))
    for choice, (left, right) in enumerate(widths.T.tolist()):
        if choice:
            a, b = module.losses[0, WIDTHS.index(left)], module.losses[1, WIDTHS.index(right)]
            assert np.allclose(table.damage[choice], module.s.square() * (1 - (1 - a) * (1 - b)))
            assert np.allclose(table.bits[choice], 64 * left + 64 * right + 48)  # 40 rows fill two words


def test_components_named_leave_no_choice_of_dropping() -> None:
    table = options({"m": survey("m", MODULE)}, {"m": [1]})
    for multiplier in table.multipliers:
        assert (widths_of(table.choose(multiplier))[0] > 0).tolist() == [False, True]


def test_farthest_goes_as_far_as_it_may_either_way() -> None:
    assert farthest(lambda m: m <= 7.0, 1e-6, 1e6) == pytest.approx(7.0, rel=1e-9)
    assert farthest(lambda m: m >= 7.0, 1e6, 1e-6) == pytest.approx(7.0, rel=1e-9)
    assert farthest(lambda m: True, 1.0, 9.0) == 9.0
    assert farthest(lambda m: False, 1.0, 9.0) == 1.0


@pytest.mark.parametrize("wanted", [0.9, 0.31, 0.05, 0.012])
@pytest.mark.parametrize("gain", [0.8, 1.0, 1.3])
def test_the_coarsest_choice_that_reaches_it_is_found(wanted: float, gain: float) -> None:
    ladder = [0.97**k for k in range(160)]

    def attempt(aim: float) -> Try[int]:
        step = next((k for k, expected in enumerate(ladder) if expected <= aim), len(ladder) - 1)
        return Try(ladder[step], gain * ladder[step] ** 1.02, step == len(ladder) - 1, step)

    best = next(k for k, expected in enumerate(ladder) if gain * expected**1.02 <= wanted)
    tried = coarsest(attempt, wanted)
    assert tried.reached <= wanted
    assert best <= tried.result <= best + 1


def test_where_none_reaches_it_the_finest_comes_back() -> None:
    tried = coarsest(lambda aim: Try(max(aim, 0.2), max(aim, 0.2), aim <= 0.2, None), 0.1)
    assert (tried.finest, tried.reached) == (True, 0.2)
