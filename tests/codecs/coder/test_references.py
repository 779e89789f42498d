"""Predictions from other objects: used where the file gets smaller by it, never to anybody's loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapterbank.codecs.coder import Coded, decode, encode, inspect
from adapterbank.codecs.target import Target
from adapterbank.errors import IntegrityError, NotFoundError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error

from .made import MIDDLE, adapter, child, digest, family, same


def by_digest(*coded: Coded) -> dict[str, bytes]:
    return {digest(each.data): each.data for each in coded}


@pytest.fixture(scope="module")
def three() -> tuple[Coded, Coded, Coded]:
    """Of one initial lora_A: the first alone, the second from the first, the third from both."""
    first, second, third = family(3)
    target = Target(max_error=0.05)
    one = encode(first, target, effort=0)
    two = encode(second, target, effort=0, references=by_digest(one))
    return one, two, encode(third, target, effort=0, references=by_digest(one, two))


@pytest.mark.parametrize("max_error", [0.4, 0.05])
def test_unrelated_adapters_are_never_used(max_error: float):
    target = Target(max_error=max_error)
    others = [encode(adapter(MIDDLE, seed=seed), target, effort=0) for seed in (1, 2)]
    own = adapter(MIDDLE, seed=3)
    alone, beside = (encode(own, target, effort=0, references=known) for known in (None, by_digest(*others)))
    assert beside.references == ()
    assert beside.data == alone.data


def test_other_modules_under_the_same_names_are_never_used():
    own = adapter(MIDDLE)
    other = encode(adapter(dict.fromkeys(MIDDLE, (160, 192, 8))), Target(max_error=0.1), effort=0)
    assert encode(own, Target(max_error=0.1), effort=0, references=by_digest(other)).references == ()


@pytest.mark.parametrize("max_error", [0.1])
def test_a_version_after_a_step_of_20_per_cent_saves_half(max_error: float):
    parent = adapter(MIDDLE, fall=0.1)
    known = by_digest(encode(parent, Target(max_error=0.05), effort=0))
    version, target = child(parent, 0.2, seed=1, rank=2), Target(max_error=max_error)
    alone, after = (encode(version, target, effort=0, references=each) for each in (None, known))
    assert len(after.data) <= 0.5 * len(alone.data)
    assert after.references == tuple(known)
    assert delta_error(version, decode(after.data, references=known)).total <= max_error


@pytest.mark.parametrize("max_error", [0.3, 0.1])
def test_a_version_at_the_error_of_its_parent_saves_half_too(max_error: float):
    """What the parent lost is left over as well, and only some of it can be coded."""
    target, parent = Target(max_error=max_error), adapter(MIDDLE, fall=0.1)
    known = by_digest(encode(parent, target, effort=0))
    version = child(parent, 0.2, seed=1, rank=2)
    alone, after = (encode(version, target, effort=0, references=each) for each in (None, known))
    assert len(after.data) <= 0.5 * len(alone.data)
    assert after.error.total <= max_error


def test_an_unchanged_version_costs_next_to_nothing():
    parent = adapter(MIDDLE)
    known = by_digest(encode(parent, Target(max_error=0.1), effort=0))
    same_again = encode(parent, Target(max_error=0.11), effort=0, references=known)
    assert len(same_again.data) < 300
    assert same_again.error.total <= 0.11


def test_at_a_target_of_bits_the_error_gets_smaller():
    parent = adapter(MIDDLE, fall=0.1)
    known = by_digest(encode(parent, Target(max_error=0.05), effort=0))
    version = child(parent, 0.2, seed=1, rank=2)
    alone, after = (encode(version, Target(bits=1.5), effort=0, references=each) for each in (None, known))
    assert after.error.total < 0.8 * alone.error.total
    assert 8 * len(after.data) <= 1.5 * version.parameters


def test_members_of_one_initial_A_never_cost_more_than_alone():
    target = Target(max_error=0.08)
    known: dict[str, bytes] = {}
    alone, shared = [], []
    for member in family(4):
        alone.append(len(encode(member, target, effort=0).data))
        coded = encode(member, target, effort=0, references=known)
        shared.append(len(coded.data))
        known |= by_digest(coded)
        assert bool(coded.references) == (len(shared) > 1)
    assert all(b <= a for a, b in zip(alone, shared, strict=True))
    assert sum(shared) < 0.97 * sum(alone)


@pytest.mark.parametrize("d_in", [60, 80])
def test_what_saves_less_than_the_digest_costs_is_left(d_in: int):
    """The rows of such small relatives are worth some bytes, but fewer than it takes to name them: the file decides."""
    first, second = family(2, {"layer": (40, d_in, 4)})
    known = by_digest(encode(first, Target(max_error=0.2), effort=0))
    alone, beside = (encode(second, Target(max_error=0.2), effort=0, references=each) for each in (None, known))
    assert beside.data == alone.data


def test_a_reference_needs_only_what_is_named_before_it(three: tuple[Coded, Coded, Coded]):
    one, two, third = three
    assert [coded.references for coded in three] == [(), (digest(one.data),), (digest(one.data), digest(two.data))]
    assert inspect(third.data).references == third.references
    assert same(decode(third.data, references=by_digest(one, two), base_model="tiny/encoder"), third.adapter)


def test_references_are_looked_for_by_name_alone(three: tuple[Coded, Coded, Coded]):
    """The order of the mapping, and what else is in it, change nothing."""
    one, two, third = three
    known = {"f" * 64: b"not an object", **by_digest(two), **by_digest(one)}
    assert same(decode(third.data, references=known, base_model="tiny/encoder"), third.adapter)


def test_a_missing_reference_is_told(three: tuple[Coded, Coded, Coded]):
    one, two, third = three
    for known in (None, {}, by_digest(one), by_digest(two)):
        with pytest.raises(NotFoundError, match="sha256:"):
            decode(third.data, references=known)


def test_a_damaged_reference_is_refused(three: tuple[Coded, Coded, Coded]):
    one, two, third = three
    known = by_digest(one, two)
    for name, data in known.items():
        for at in range(0, len(data), 97):
            with pytest.raises(IntegrityError):
                decode(third.data, references=known | {name: data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]})


def test_a_reference_that_needs_others_is_refused_where_none_may(three: tuple[Coded, Coded, Coded]):
    """Under the first digest there is suddenly an object that itself needs one: no chain, no circle."""
    one, two, third = three
    first, second = digest(one.data), digest(two.data)
    for data in (two.data, third.data):
        with pytest.raises(IntegrityError, match="needs another"):
            decode(third.data, references={first: data, second: two.data})


def test_a_reference_with_other_modules_is_refused(three: tuple[Coded, Coded, Coded]):
    _, two, _ = three
    other = encode(Adapter({f"x.{n}": f for n, f in family(1)[0].modules.items()}), Target(max_error=0.5), effort=0)
    with pytest.raises(IntegrityError):
        decode(two.data, references={two.references[0]: other.data})


def test_a_module_that_the_reference_lacks_is_coded_alone():
    parent = adapter(MIDDLE, fall=0.1)
    half = Adapter({"layer.0": parent.modules["layer.0"]})
    known = by_digest(encode(half, Target(max_error=0.05), effort=0))
    version = child(parent, 0.1, seed=1, rank=2)
    coded = encode(version, Target(max_error=0.1), effort=0, references=known)
    assert [module.predict for module in inspect(coded.data).modules] == ["refined", "none", "none"]
    assert coded.error.total <= 0.1


def test_the_rank_of_a_version_is_that_of_what_is_kept():
    """Components of the reference and new ones are one sum: a step of rank 2 adds 2 to 8."""
    parent, target = adapter(MIDDLE, fall=0.1), Target(max_error=0.05)
    base = encode(parent, target, effort=0)
    coded = encode(child(parent, 0.2, seed=1, rank=2), target, effort=0, references=by_digest(base))
    assert {module.live for module in inspect(base.data).modules} == {8}
    assert {(module.predict, module.live) for module in inspect(coded.data).modules} == {("refined", 10)}
    assert {own.rank for own in coded.adapter.modules.values()} == {10}


def test_a_chain_ends_where_its_last_version_needs_as_many_as_one_may():
    """Each version refines the one before, four at most; the sixth refines an older one or none."""
    version, known, used = adapter(MIDDLE, fall=0.1), dict[str, bytes](), []
    for seed in range(6):
        coded = encode(version, Target(max_error=0.2), effort=0, references=known)
        used.append(coded.references)
        known[digest(coded.data)] = coded.data
        version = child(version, 0.1, seed, rank=1)
    assert used[:5] == [tuple(known)[:count] for count in range(5)]
    assert 0 < len(used[5]) <= 4
    assert same(decode(coded.data, references=known, base_model="tiny/encoder"), coded.adapter)


def test_folded_scalings_of_a_version_are_seen():
    """A parent with α/r = 2 and its version with 1 and a lora_B twice as large are the same adapter."""
    parent = adapter(MIDDLE)
    scaled = Adapter({name: replace(own, B=own.B / 2, scaling=2.0) for name, own in parent.modules.items()})
    known = by_digest(encode(parent, Target(max_error=0.1), effort=0))
    assert len(encode(scaled, Target(max_error=0.11), effort=0, references=known).data) < 300
