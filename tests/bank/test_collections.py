"""Bases of the codec ``rd``: adapters coded one by one to one target, some against others of the same basis."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapterbank.errors import (
    ConflictError,
    ErrorBoundError,
    IncompatibleError,
    IntegrityError,
    InUseError,
    NotFoundError,
    UsageError,
)
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format.reader import read
from adapterbank.ways.collection import candidates, lineages
from tests.bank.state import objects, state
from tests.bank.variants import with_dora, with_extras

WIDE = {"h.0.q": (96, 64), "h.0.v": (64, 96)}


@pytest.fixture
def versions(bank, make):
    """``sql`` in three versions, each a step from the one before, and two unrelated adapters."""
    folder = make("sql", modules=WIDE, rank=8)
    bank.register(folder, name="sql")
    for number in (1, 2):
        bank.register(stepped(folder, number), name="sql", parent=f"sql@{number}")
    for seed, name in enumerate(("math", "law"), start=5):
        bank.register(make(name, modules=WIDE, rank=8, seed=seed), name=name)
    return ["sql@1", "sql@2", "sql@3", "math@1"]


def stepped(folder, seed):
    """The adapter in ``folder`` after a step that changes its B a little."""
    rng, weights = np.random.default_rng(seed), folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    for key, tensor in tensors.items():
        if "lora_B" in key:
            tensors[key] = tensor * (1 + 0.02 * rng.standard_normal(tensor.shape[1])).astype(tensor.dtype)
    save_file(tensors, weights, metadata={"format": "pt"})
    return folder


def original(bank, ref):
    version = bank.find(ref)
    return read(bank.rooms.vault.read(version.config), bytearray(bank.rooms.vault.read(version.weights)))


def by_version(bank, basis):
    return {member.version: member for member in bank.members(basis)}


def root(bank, basis):
    """The version of sql that was coded without another; the others were coded against it."""
    (found,) = (ref for ref, member in by_version(bank, basis).items() if ref.startswith("sql") and not member.references)
    return found


def test_every_member_is_within_the_error_that_was_asked_for(bank, versions):
    basis = bank.build_basis("b", versions, max_error=0.35)
    assert (basis.codec, basis.components, basis.members, basis.error_kind) == ("rd", None, 4, "measured")
    assert bank.basis_settings("b") == {"max_error": 0.35, "effort": 1}
    errors = {}
    for ref, member in by_version(bank, "b").items():
        errors[ref] = delta_error(original(bank, ref), bank.reconstruct(ref, basis="b")).total
        assert member.error == pytest.approx(errors[ref], rel=1e-9) and member.error <= 0.35
    assert (basis.error_worst, basis.error_mean) == pytest.approx((max(errors.values()), sum(errors.values()) / 4))
    assert bank.verify().problems == ()


def test_a_version_is_coded_against_an_earlier_one_where_that_saves_bytes(bank, versions):
    bank.build_basis("b", versions, max_error=0.3)
    for ref in versions:
        bank.encode(ref, max_error=0.3)
    found = by_version(bank, "b")
    first = root(bank, "b")
    others = [found[ref] for ref in versions[:3] if ref != first]
    assert found["math@1"].references == ()
    assert all(member.references[0] == first and member.reference_objects[0] == found[first].object for member in others)
    for ref in versions:
        (alone,) = (form for form in bank.forms(ref) if form.basis is None)
        assert alone.references == ()
        assert found[ref].bytes < 0.6 * alone.bytes if found[ref].references else found[ref].bytes <= alone.bytes
    assert all(module.predict == "none" for module in bank.form_modules(found[first]))
    assert any(module.predict != "none" for module in bank.form_modules(others[0]))


def test_a_chain_of_versions_is_coded_each_after_the_one_it_came_from(bank, versions):
    bank.build_basis("b", list(reversed(versions)), max_error=0.3)
    found = by_version(bank, "b")
    first, second, third = (found[f"sql@{k}"].references for k in (1, 2, 3))
    assert (first, second) == ((), ("sql@1",))
    assert third in (("sql@1",), ("sql@1", "sql@2"))  # steps of 2 % hardly matter at this error: whichever is smaller


def test_lineages_follow_parents_and_else_the_numbers_of_a_name(bank, make):
    bank.register(make("a", seed=1), name="a")
    bank.register(make("b", seed=2), name="b", parent="a@1")
    bank.register(make("a", seed=3), name="a")
    bank.register(make("a", seed=4), name="a", parent="b@1")
    chosen = [bank.find(ref) for ref in ("a@3", "a@2", "b@1", "a@1")]
    lines = {"a@1": ("a@1",), "b@1": ("a@1", "b@1"), "a@2": ("a@1", "a@2"), "a@3": ("a@1", "b@1", "a@3")}
    assert lineages(chosen) == lines
    assert lineages(chosen[:2]) == {"a@2": ("a@2",), "a@3": ("a@2", "a@3")}


def test_bits_are_a_limit_for_every_member(bank, versions):
    bank.build_basis("b", versions, bits=2)
    assert all(8 * member.bytes <= 2 * bank.find(ref).parameters for ref, member in by_version(bank, "b").items())


def test_a_budget_is_a_limit_for_all_that_is_stored(bank, versions):
    before = objects(bank.rooms.root)
    bank.build_basis("b", versions, budget=0.06)
    stored = sum(bank.rooms.vault.size(digest) for digest in objects(bank.rooms.root) - before)
    originals = sum(bank.find(ref).bytes for ref in versions)
    assert 0.03 * originals < stored <= 0.06 * originals


def test_what_cannot_be_reached_or_makes_no_sense_is_said_and_nothing_is_stored(bank, place, versions, make):
    bank.register(with_dora(make("dora", seed=7, modules=WIDE)), name="dora")
    bank.register(make("other", seed=8, base_model="tiny/decoder"), name="other")
    before = state(place)
    for unreachable in ({"bits": 0.001}, {"budget": 1e-6}):
        with pytest.raises(ErrorBoundError):
            bank.build_basis("b", versions, **unreachable)
    for error, refs in ((UsageError, []), (IncompatibleError, ["sql", "dora"]), (IncompatibleError, ["sql", "other"])):
        with pytest.raises(error):
            bank.build_basis("b", refs, max_error=0.5)
    with pytest.raises(UsageError, match="more than once: sql@1"):
        bank.build_basis("b", ["sql@1", "sql@1"], max_error=0.5)
    wrong = [{"budget": -1.0}, {"bits": 1, "gauge": "svd"}, {"bits": 1, "codec": "rmm"}]
    for how in (*wrong, {"max_error": 0.5, "codec": "rd", "dtype": "float16"}, {"max_error": 0.5, "effort": 9}):
        with pytest.raises(UsageError):
            bank.build_basis("b", versions, **how)
    assert state(place) == before


def test_larger_than_the_originals_warns_is_refused_or_is_accepted(bank, place, make):
    bank.register(make("a", modules={"m": (2, 2)}, rank=1, dtype="float16"), name="a")
    version = bank.find("a")
    shrunk = json.dumps(json.loads(bank.rooms.vault.read(version.config)), separators=(",", ":"))
    assert version.bytes > len(shrunk)  # so small that the header alone is most of it
    bank.build_basis("fits", ["a"], max_error=0.5, force=False)
    from adapterbank.ways.sizes import refuse_larger

    with pytest.raises(UsageError, match="more than the 10 of their originals"):
        refuse_larger(11, 10, "so", False, "less")
    with pytest.warns(UserWarning, match="more than the 10"):
        refuse_larger(11, 10, "so", None, "less")
    refuse_larger(11, 10, "so", True, "less")


def test_adding_codes_one_adapter_and_changes_nothing_else(bank, place, versions):
    basis = bank.build_basis("b", versions[:2], max_error=0.4)
    before, kept = objects(place), bank.members("b")
    law, third = bank.add_to_basis("b", "law"), bank.add_to_basis("b", "sql@3")
    assert objects(place) - before == {law.object, third.object}
    assert law.references == () and third.references[0] == root(bank, "b") and max(law.error, third.error) <= 0.4
    assert [member for member in bank.members("b") if member.version in versions[:2]] == kept
    assert bank.basis("b").object == basis.object and bank.basis("b").members == 4
    with pytest.raises(ConflictError, match="law@1 is a member of b@1 already"):
        bank.add_to_basis("b", "law")
    assert bank.verify().problems == ()


def test_adding_above_the_worst_error_needs_force(bank, make, versions):
    bank.build_basis("b", ["sql@1", "sql@2"], bits=2)
    bank.register(make("thin", modules=WIDE, rank=3, seed=9), name="thin")
    bound = bank.basis("b").error_worst
    with pytest.raises(ErrorBoundError, match="thin@1 has error"):
        bank.add_to_basis("b", "thin")
    assert bank.add_to_basis("b", "thin", force=True).error > bound


def test_what_another_form_was_coded_against_stays(bank, versions):
    bank.build_basis("b", versions, max_error=0.3)
    first = root(bank, "b")
    others = [ref for ref in versions[:3] if ref != first]
    with pytest.raises(InUseError, match=rf"version {first} is needed by .*member {others[0]} of b@1") as caught:
        bank.remove([first])
    assert "basis rebuild" in caught.value.hint
    bank.remove([others[1]])
    bank.remove([first, others[0]])
    assert [member.version for member in bank.members("b")] == ["math@1"]
    assert bank.verify().problems == () and bank.gc(grace=0.0, dry_run=True).objects == ()


def test_a_rebuild_codes_again_to_the_same_target(bank, place, versions):
    bank.build_basis("b", versions, max_error=0.3, effort=0)
    before = by_version(bank, "b")
    done = bank.rebuild_basis("b")
    assert done.removed and (done.after.ref, done.after.object) == ("b@2", done.before.object)
    assert {ref: member.object for ref, member in by_version(bank, "b").items()} == {
        ref: member.object for ref, member in before.items()
    }
    fewer = bank.rebuild_basis("b", refs=["sql@2", "sql@3", "law"])
    assert [member.version for member in fewer.after_members] == ["law@1", "sql@2", "sql@3"]
    assert root(bank, "b") in ("sql@2", "sql@3")
    assert bank.basis_settings("b") == {"max_error": 0.3, "effort": 0}
    bank.remove(["sql@1"])
    with pytest.raises(UsageError, match="no components"):
        bank.rebuild_basis("b", components=2)


def test_compacted_members_keep_their_basis_and_a_rebuild_adds_their_error(bank, versions, tmp_path):
    bank.build_basis("b", versions, max_error=0.3)
    bank.compact(["sql@2"], level="bounded", basis="b", drop_exact=True)
    form = by_version(bank, "b")["sql@2"]
    assert bank.export("sql@2", tmp_path / "out", bounded=True).error == form.error
    with pytest.raises(InUseError, match="version sql@2"):
        bank.remove_basis("b")
    with pytest.raises(ConflictError, match="sql@2"):
        bank.rebuild_basis("b")
    again = bank.rebuild_basis("b", accept_generation_loss=True)
    assert not again.removed and again.after.error_kind == "bound"
    told = {member.version: (member.error_kind, member.error) for member in again.after_members}
    assert told["sql@2"][0] == "bound" and told["sql@2"][1] > form.error and told["sql@1"][0] == "measured"
    assert bank.verify().problems == ()


def test_extras_and_adapters_that_lack_modules(bank, make):
    bank.register(with_extras(make("head")), name="head")
    bank.register(make("part", modules={"encoder.layer.0.output.dense": (12, 16)}, seed=3), name="part")
    bank.build_basis("b", ["head", "part"], max_error=0.5)
    found = by_version(bank, "b")
    assert len(found["part@1"].absent) == 2 and found["head@1"].absent == ()
    assert bank.reconstruct("head", basis="b").extras.keys() == original(bank, "head").extras.keys()
    assert set(bank.reconstruct("part", basis="b").modules) == {"encoder.layer.0.output.dense"}


def test_the_same_collection_twice_has_the_same_objects(bank, versions):
    for _ in range(2):
        bank.build_basis("b", versions, max_error=0.4)
    assert [m.object for m in bank.members("b@1")] == [m.object for m in bank.members("b@2")]
    bank.remove_basis("b@1")
    assert bank.verify().problems == () and len(bank.members("b")) == 4


def test_a_settings_of_the_published_method_are_empty(bank, versions):
    bank.build_basis("r", versions, components=1, gauge="svd", force=True)
    assert bank.basis_settings("r") == {} and bank.basis("r").codec == "rmm"
    with pytest.raises(NotFoundError):
        bank.basis_settings("none")


def test_a_collection_has_no_object_but_those_of_its_members(bank, place, versions):
    before = objects(place)
    basis = bank.build_basis("b", versions, max_error=0.4)
    assert (basis.object, basis.bytes) == (None, 0)
    assert objects(place) - before == {member.object for member in bank.members("b")}


def test_a_changed_target_is_found_and_never_used(bank, place, versions):
    bank.build_basis("b", versions, max_error=0.4)
    with closing(sqlite3.connect(place / "catalog.db")) as connection, connection:
        connection.execute("UPDATE bases SET settings = replace(settings, '0.4', '0.9')")
    for use in (
        lambda: bank.basis_settings("b"), lambda: bank.add_to_basis("b", "law"), lambda: bank.rebuild_basis("b"),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            use()
    assert any("bases" in str(problem.where) for problem in bank.verify().problems)


def test_progress_goes_up_to_the_end(bank, versions):
    told = []
    bank.build_basis("b", versions, max_error=0.5, progress=lambda done, total: told.append((done, total)))
    shares = [done / total for done, total in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(told) > len(versions)


def test_candidates_are_kin_first_and_four_at_most_with_what_they_need(bank, versions):
    earlier = {f"a{k}@1": (f"d{k}", ()) for k in range(5)} | {"sql@1": ("s1", ()), "sql@2": ("s2", ("s1",))}
    assert candidates(bank.find("sql@3"), earlier) == ["s2", "s1", "d0", "d1"]
    assert candidates(bank.find("math"), earlier) == ["d0", "d1", "d2", "d3"]
    twice = {"a@1": ("same", ()), "b@1": ("same", ()), "c@1": ("full", tuple("pqrs")), "d@1": ("one", ("far",))}
    assert candidates(bank.find("math"), twice) == ["same", "one", "far"]
    assert candidates(bank.find("sql@1"), {}) == []
