"""References, aliases, labels, and base models through the façade."""

from __future__ import annotations

import pytest

from adapterbank.errors import ConflictError, IncompatibleError, InUseError, NotFoundError, UsageError
from tests.bank.state import state


@pytest.fixture
def two(bank, make):
    for seed in (1, 2):
        bank.register(make(f"v{seed}", seed=seed), name="sql")
    return bank


def test_every_form_of_reference_finds_its_version(two):
    two.set_alias("sql", "prod", 1)
    assert [two.find(ref).number for ref in ("sql", "sql@1", "sql@2", "sql@prod")] == [2, 1, 2, 1]
    for version in two.versions():
        assert two.find(f"sha256:{version.files[:16]}") == version


def test_what_does_not_exist_is_said(two):
    for ref, told in [("sqll", "sqll"), ("sql@3", "1, 2"), ("sql@prod", "prod"), ("sha256:" + "0" * 12, "0000")]:
        with pytest.raises(NotFoundError, match=told):
            two.find(ref)
    with pytest.raises(UsageError):
        two.find("../sql")


def test_aliases_move_by_compare_and_swap_with_a_history(two, place):
    assert (two.set_alias("sql", "prod", 1, expect=None).old, two.find("sql@prod").number) == (None, 1)
    before = state(place)
    for expect in (None, 2):
        with pytest.raises(ConflictError):
            two.set_alias("sql", "prod", 2, expect=expect)
    assert state(place) == before
    assert two.set_alias("sql", "prod", 2, expect=1).new == 2
    two.remove_alias("sql", "prod")
    assert [(e.alias, e.old, e.new) for e in two.history("sql").events] == [
        ("prod", None, 1), ("prod", 1, 2), ("prod", 2, None),
    ]  # fmt: skip
    with pytest.raises(UsageError):
        two.set_alias("sql", "12", 1)


def test_an_alias_protects_its_version(two):
    two.set_alias("sql", "prod", 1)
    with pytest.raises(InUseError, match="alias sql@prod"):
        two.remove(["sql@1"])
    assert [edge.dependent for edge in two.dependents("sql@1")] == ["alias sql@prod"]


def test_labels_change_and_nothing_else_does(two):
    before = two.find("sql@1")
    after = two.label("sql@1", tags={"team": "data", "x": "1"}, metrics={"acc": 0.5}, note="n")
    after = two.label("sql@1", untag=("x",))
    assert (dict(after.tags), dict(after.metrics), after.note) == ({"team": "data"}, {"acc": 0.5}, "n")
    assert (after.id, after.files, after.content, after.created) == (before.id, before.files, before.content, before.created)


def test_a_selection_names_each_version_once(two):
    assert [v.ref for v in two.select(["sql@2", "sql", "sql@1"], where="rank=4")] == ["sql@2", "sql@1"]
    with pytest.raises(UsageError):
        two.select([], where="rank=99")


def test_a_base_model_says_what_it_knows_and_is_not_another(two):
    model = two.add_base_model("tiny/encoder", fingerprint="abc", quantization="none")
    assert (model.fingerprint, model.quantization) == ("abc", "none")
    with pytest.raises(ConflictError, match="fingerprint"):
        two.add_base_model("tiny/encoder", fingerprint="xyz")
    two.add_base_model("tiny/decoder")
    with pytest.raises(ConflictError, match="tiny/encoder"):
        two.alias_base_model("tiny/decoder", "tiny/encoder")


def test_adapters_of_joined_base_models_may_be_merged(bank, add):
    add("a", seed=1, base_model="org/model")
    add("b", seed=2, base_model="/models/model")
    with pytest.raises(IncompatibleError, match="different base models") as refused:
        bank.merge("average", {"a": 1.0, "b": 1.0}, name="ab")
    assert "model join" in refused.value.hint
    assert bank.join_base_models("org/model", "/models/model").aliases == ("/models/model",)
    assert bank.merge("average", {"a": 1.0, "b": 1.0}, name="ab").base_model == "org/model"
    assert bank.verify().problems == ()
