"""The laws that each method declares, over the whole table: a declared exception is asserted, an undeclared one fails."""

import pytest
import torch

from adapterbank.merge import METHODS
from adapterbank.merge.method import LAWS
from tests.merge.factories import adapter, deltas, digests, distance, regauged, run

THREE = [adapter(1, 4), adapter(2, 4, scaling=2.0), adapter(3, 4, scaling=0.5)]
WEIGHTS = [1.0, 0.6, -0.4]
BROKEN = 1e-3


def itself(method, options):
    return distance(deltas(run(method, THREE[:1], options=options).adapter), deltas(THREE[0]))


def copies(method, options):
    return distance(deltas(run(method, THREE[:1] * 3, options=options).adapter), deltas(THREE[0]))


def order(method, options):
    given = run(method, THREE, WEIGHTS, names=digests(3), options=options)
    turned = run(method, THREE[::-1], WEIGHTS[::-1], names=digests(3)[::-1], options=options)
    pairs = [(given.adapter.modules[m], turned.adapter.modules[m]) for m in given.adapter.modules]
    return 0.0 if all(torch.equal(f.A, g.A) and torch.equal(f.B, g.B) for f, g in pairs) else 1.0


def zero_weight(method, options):
    without = run(method, THREE[:2], WEIGHTS[:2], options=options)
    with_it = run(method, THREE, [*WEIGHTS[:2], 0.0], options=options)
    return distance(deltas(with_it.adapter), deltas(without.adapter))


def gauge(method, options):
    others = [regauged(value, seed) for seed, value in enumerate(THREE)]
    first, second = run(method, THREE, WEIGHTS, options=options), run(method, others, WEIGHTS, options=options)
    return distance(deltas(second.adapter), deltas(first.adapter))


DEVIATION = {law.__name__: law for law in (itself, copies, order, zero_weight, gauge)}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("method", METHODS)
def test_the_declared_laws_hold_and_the_declared_exceptions_do_not(method, law):
    neutral = METHODS[method].laws.get(law)
    if neutral is not None:
        assert DEVIATION[law](method, neutral) < 1e-7
    if neutral is None or neutral:
        assert DEVIATION[law](method, {}) > BROKEN, "it holds at the defaults: declare it"


def test_only_known_laws_and_options_are_declared():
    for method in METHODS.values():
        assert method.laws.keys() <= LAWS.keys()
        names = {option.name for option in method.options}
        assert all(neutral.keys() <= names for neutral in method.laws.values())
    assert DEVIATION.keys() == LAWS.keys()
