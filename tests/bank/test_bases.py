"""Bases through the façade: how large they get, what they refuse, what never changes, and how they grow."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from adapterbank.errors import ConflictError, ErrorBoundError, IncompatibleError, InUseError, NotFoundError, UsageError
from adapterbank.lora.delta import delta
from tests.bank import dense
from tests.bank.state import objects, state

WIDE = {"h.0.q": (96, 64), "h.0.v": (64, 96)}  # large enough for a basis to save bytes


@pytest.fixture
def eight(bank, make):
    names = [f"a{i}" for i in range(8)]
    for seed, name in enumerate(names):
        bank.register(make(name, modules=WIDE, rank=8, seed=seed), name=name)
    return names


@pytest.fixture
def four(bank, add):
    for seed, name in enumerate(("sql", "math", "law", "art")):
        add(name, seed=seed, rank=6)
    return ["sql", "math", "law"]


def stored(bank, ref):
    """Bytes of a basis and its members as they lie in the vault."""
    digests = [bank.basis(ref).object, *(member.object for member in bank.members(ref))]
    return sum(bank.rooms.vault.size(digest) for digest in digests)


def originals(bank, names):
    return sum(bank.find(name).bytes for name in names)


def deltas(bank, ref, basis):
    return {name: delta(f).numpy() for name, f in bank.reconstruct(ref, basis=basis).modules.items()}


def test_options_say_what_each_size_costs_and_loses(bank, eight):
    options = bank.basis_options(eight, gauge="svd", dtype="float16")
    assert [option.components for option in options] == list(range(8))
    for p in (1, 4):
        basis = bank.build_basis("b", eight, components=p, gauge="svd", dtype="float16")
        option = options[p]
        assert (basis.error_mean, basis.error_worst) == pytest.approx((option.error_mean, option.error_worst), rel=1e-4)
        assert stored(bank, basis.ref) == option.bytes == pytest.approx(option.ratio * originals(bank, eight))
        errors = [member.error for member in bank.members(basis.ref)]
        assert (max(errors), sum(errors) / 8) == pytest.approx((basis.error_worst, basis.error_mean), rel=1e-12)


def test_each_way_to_choose_a_size_keeps_its_promise(bank, eight):
    options = {option.components: option for option in bank.basis_options(eight)}
    limit = 0.5 * (options[3].error_worst + options[4].error_worst)
    by_error = bank.build_basis("error", eight, max_error=limit, codec="rmm", force=True)
    assert by_error.components == 4 and by_error.error_worst <= limit
    by_bytes = bank.build_basis("bytes", eight, budget=0.7, codec="rmm")
    assert stored(bank, "bytes") <= 0.7 * originals(bank, eight) < options[by_bytes.components + 1].bytes
    by_energy = bank.build_basis("energy", eight, energy=0.6)
    assert options[by_energy.components].energy >= 0.6 > options[by_energy.components - 1].energy


def test_what_cannot_be_reached_is_said_and_nothing_is_stored(bank, place, eight):
    before = state(place)
    with pytest.raises(ErrorBoundError, match="best is"):
        bank.build_basis("b", eight, max_error=1e-3, dtype="bfloat16")
    with pytest.raises(UsageError, match="cannot be met"):
        bank.build_basis("b", eight, budget=0.01, codec="rmm")
    with pytest.raises(UsageError, match="energy"):
        bank.build_basis("b", eight, energy=1.5)
    for sizes in ({}, {"components": 1, "budget": 0.5}):
        with pytest.raises(UsageError, match="exactly one"):
            bank.build_basis("b", eight, **sizes)
    odd = [{"components": p} for p in (-1, 1.5, True)]
    for how in (*odd, {"components": 1, "gauge": "qr"}, {"components": 1, "dtype": "int8"}):
        with pytest.raises(UsageError):
            bank.build_basis("b", eight, **how)
    with pytest.raises(UsageError, match="list of references"):
        bank.build_basis("b", "a0", components=1)
    assert state(place) == before


def test_a_basis_larger_than_its_originals_warns_is_refused_or_is_accepted(bank, place, four):
    before = state(place)
    with pytest.raises(UsageError, match="more than the"):
        bank.build_basis("b", four, components=2, force=False)
    assert state(place) == before
    with pytest.warns(UserWarning, match="more than the") as told:
        bank.build_basis("b", four, components=2)
    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank.build_basis("b", four, components=2, force=True)


@pytest.mark.filterwarnings("ignore:with p =:UserWarning")
def test_the_documented_example_runs_as_it_is_written(bank, make, tmp_path):
    version = bank.register(make("sql"), name="sql", base_model="tiny/encoder", tags={}, metrics={})
    assert (version.ref, version.name, version.number) == ("sql@1", "sql", 1)
    for seed in (1, 2):
        bank.register(make(f"math{seed}", seed=seed), name="math")
    basis = bank.build_basis("b1", ["sql@1", "math@2"], components=3, gauge="svd")
    assert (basis.ref, basis.components, basis.gauge, basis.members) == ("b1@1", 3, "svd", 2)
    adapter = bank.reconstruct("sql@1", basis="b1", device="cpu", dtype=torch.float32)
    assert len(adapter.modules) == 3 and bank.forms("sql@1")[0].error < 1e-6
    merged = bank.merge("ties", {"sql@1": 1.0, "math@2": 0.5}, name="sql-math", options={"density": 0.2})
    assert merged.ref == "sql-math@1"
    bank.export("sql@1", tmp_path / "out")


def test_ranks_8_and_256_in_one_basis_cost_the_sum_of_each_apart(bank, add):
    sizes = {"h.0.q": (280, 300)}
    for kind, rank in (("low", 8), ("high", 256)):
        for seed in range(2):
            add(f"{kind}{seed}", rank=rank, modules=sizes, seed=rank + seed)
    low, high = ["low0", "low1"], ["high0", "high1"]
    for name, members in (("low", low), ("high", high), ("both", low + high)):
        bank.build_basis(name, members, components=1, force=True)
    assert stored(bank, "both") <= 1.05 * (stored(bank, "low") + stored(bank, "high"))
    for name, alone in (("low0", "low"), ("high1", "high")):
        assert dense.distance(deltas(bank, name, "both"), deltas(bank, name, alone)) < 1e-6


def test_other_base_models_are_refused_by_name(bank, place, four, add):
    add("other", seed=9, rank=6, base_model="tiny/decoder")
    bank.build_basis("b", four, components=1, force=True)
    before = state(place)
    with pytest.raises(IncompatibleError, match=r"tiny/encoder.*tiny/decoder"):
        bank.build_basis("mixed", [*four, "other"], components=1, force=True)
    with pytest.raises(IncompatibleError, match=r"tiny/decoder.*tiny/encoder"):
        bank.add_to_basis("b", "other", force=True)
    with pytest.raises(IncompatibleError, match="tiny/decoder"):
        bank.rebuild_basis("b", refs=[*four, "other"], force=True)
    with pytest.raises(IncompatibleError, match="tiny/decoder"):
        bank.rebuild_basis("b", refs=["other"], force=True)
    assert state(place) == before


def test_names_of_one_base_model_are_one(bank, four, add):
    bank.alias_base_model("tiny/encoder", "/srv/encoder")
    add("local", seed=9, rank=6, base_model="/srv/encoder")
    assert bank.build_basis("b", [*four, "local"], components=1, force=True).members == 4


def test_fewer_than_half_of_the_modules_in_common_shows_both_lists(bank, place, add):
    one = {f"h.{i}.q": (12, 12) for i in range(4)}
    two = {f"h.{i}.q": (12, 12) for i in range(3, 7)}
    add("one", modules=one)
    add("two", modules=two, seed=1)
    before = state(place)
    with pytest.raises(IncompatibleError) as refused:
        bank.build_basis("b", ["one", "two"], components=1, force=True)
    for name in (*one, *two):
        assert name in str(refused.value)
    assert refused.value.details == {"one@1": sorted(one), "two@1": sorted(two)} and state(place) == before


def test_other_shapes_and_the_same_version_twice_are_refused(bank, four, add):
    add("wide", modules={"encoder.layer.0.attention.query": (32, 12), "encoder.layer.0.attention.value": (16, 12)})
    with pytest.raises(IncompatibleError, match=r"attention\.query.*16×12.*32×12"):
        bank.build_basis("b", ["sql", "wide"], components=1, force=True)
    with pytest.raises(UsageError, match="more than once: sql@1"):
        bank.build_basis("b", ["sql", "sql@1"], components=1, force=True)


def test_dora_is_in_no_basis_and_is_named(bank, four, make):
    from tests.bank.variants import with_dora

    bank.register(with_dora(make("dora", seed=7, rank=6)), name="dora")
    with pytest.raises(IncompatibleError, match="dora@1: DoRA"):
        bank.build_basis("b", [*four, "dora"], components=1, force=True)
    bank.build_basis("b", four, components=1, force=True)
    with pytest.raises(IncompatibleError, match="dora@1: DoRA"):
        bank.add_to_basis("b", "dora", force=True)


def test_the_same_basis_twice_is_the_same_object(bank, four):
    first, second = (bank.build_basis("b", four, components=1, gauge="procrustes", force=True) for _ in range(2))
    assert (first.ref, second.ref) == ("b@1", "b@2") and first.object == second.object
    assert [m.object for m in bank.members("b@1")] == [m.object for m in bank.members("b@2")]


def test_adding_writes_one_object_and_changes_no_other(bank, place, four):
    bank.build_basis("b", four, components=1, force=True)
    before, row, kept = objects(place), bank.basis("b"), bank.members("b")
    member = bank.add_to_basis("b", "art", force=True)
    assert objects(place) - before == {member.object} and before <= objects(place)
    assert bank.basis("b") == replace(row, members=4, members_bytes=row.members_bytes + member.bytes)
    assert [each for each in bank.members("b") if each.version != "art@1"] == kept
    with pytest.raises(ConflictError, match="art@1 is a member of b@1 already"):
        bank.add_to_basis("b", "art", force=True)


@pytest.mark.parametrize("gauge", ["given", "svd", "procrustes"])
def test_adding_keeps_the_bound_of_the_basis_unless_forced(bank, place, four, add, gauge):
    basis = bank.build_basis("b", four, components=1, gauge=gauge, force=True)
    folder = add("odd", seed=99, rank=6, alpha=32)
    before = state(place)
    with pytest.raises(ErrorBoundError, match=r"odd@1 has error.*b@1"):
        bank.add_to_basis("b", "odd")
    assert state(place) == before
    member = bank.add_to_basis("b", "odd", force=True)
    assert member.error > basis.error_worst and member.error_kind == "measured"
    found = deltas(bank, "odd", "b")
    assert dense.distance(found, dense.deltas(folder)) == pytest.approx(member.error, rel=1e-5)


def test_one_that_fits_is_added_without_force(bank, four, make, tmp_path):
    """A reconstruction lies on the basis, so it is added with next to no error."""
    bank.build_basis("b", four, components=1, force=True)
    bank.write_reconstruction("sql", tmp_path / "lies-on-it")
    bank.register(tmp_path / "lies-on-it", name="fits")
    assert bank.add_to_basis("b", "fits").error < 1e-5


def test_a_module_or_rank_without_a_place_is_refused(bank, four, add):
    bank.build_basis("b", four, components=1, force=True)
    add("low", seed=7, rank=3)
    with pytest.raises(IncompatibleError, match="rank 3, where the basis has ranks \\[6\\]"):
        bank.add_to_basis("b", "low", force=True)


def test_a_rebuild_is_the_next_version_with_before_and_after(bank, four):
    bank.build_basis("b", four, components=1, gauge="svd", dtype="float16", force=True)
    bank.add_to_basis("b", "art", force=True)
    with pytest.raises(UsageError, match="components: got -1"):
        bank.rebuild_basis("b", components=-1, force=True)
    done = bank.rebuild_basis("b", components=2, force=True)
    assert (done.before.ref, done.after.ref, done.removed) == ("b@1", "b@2", True)
    assert (done.after.gauge, done.after.dtype, done.after.components) == ("svd", "float16", 2)
    names = ["art@1", "law@1", "math@1", "sql@1"]
    assert [m.version for m in done.before_members] == [m.version for m in done.after_members] == names
    assert done.after.error_worst < done.before.error_worst
    assert [basis.ref for basis in bank.bases("b")] == ["b@2"] and bank.verify().problems == ()
    with pytest.raises(NotFoundError):
        bank.basis("b@1")
    assert bank.build_basis("b", four, components=1, force=True).ref == "b@3"


def test_the_old_version_stays_while_something_needs_it(bank, four):
    bank.build_basis("b", four, components=1, force=True)
    bank.compact(["sql"], drop_exact=True)
    wanted = deltas(bank, "sql", "b@1")
    done = bank.rebuild_basis("b", refs=["math", "law", "art"], force=True)
    assert not done.removed and [basis.ref for basis in bank.bases("b")] == ["b@1", "b@2"]
    assert dense.distance(deltas(bank, "sql", "b@1"), wanted) == 0.0
    with pytest.raises(InUseError, match="version sql@1"):
        bank.remove_basis("b@1")


def test_rebuilding_from_bounded_members_needs_consent_and_is_a_bound(bank, place, four):
    truth = {name: deltas(bank, name, bank.build_basis("exact", four, components=6, force=True).ref) for name in four[:1]}
    bank.build_basis("b", four, components=1, force=True)
    bank.compact(["sql"], basis="b", drop_exact=True)
    first = bank.forms("sql")
    before = state(place)
    for rebuild in (lambda: bank.rebuild_basis("b", force=True), lambda: bank.build_basis("c", four, components=1, force=True)):
        with pytest.raises(ConflictError, match=r"bounded form: sql@1"):
            rebuild()
    assert state(place) == before
    done = bank.rebuild_basis("b", accept_generation_loss=True, force=True)
    assert done.after.error_kind == "bound" and not done.removed
    kinds = {member.version: member.error_kind for member in done.after_members}
    assert kinds == {"sql@1": "bound", "math@1": "measured", "law@1": "measured"}
    second = next(member for member in done.after_members if member.version == "sql@1")
    assert second.error >= next(form.error for form in first if form.basis == "b@1")
    assert dense.distance(deltas(bank, "sql", "b@2"), truth["sql"]) <= second.error


@pytest.mark.parametrize("refs", [[], ["sql"]])
def test_a_basis_of_none_is_refused_and_of_one_is_exact(bank, four, refs):
    if not refs:
        with pytest.raises(UsageError):
            bank.build_basis("b", refs, components=1, force=True)
        return
    assert bank.build_basis("b", refs, components=1, force=True).error_worst < 1e-6
