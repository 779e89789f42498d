"""Recipes as files, merges with one constituent more or less, and what a recipe says beside method, inputs and weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from adapterbank import Bank
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from tests import hook
from tests.bank import dense

NAMES = ("sql", "math", "law")
WEIGHTS = {"sql@1": 1.0, "math@1": -0.5, "law@1": 0.75}
QUERY, VALUE, DENSE = ("encoder.layer.0.attention.query", "encoder.layer.0.attention.value", "encoder.layer.0.output.dense")
MANY = {
    "options": {"density": 0.5}, "rank": {"energy": 0.9}, "absent": "renormalize", "seed": 3, "dtype": "float16",
    "prepare": [("align_procrustes", {})], "schedules": [{"modules": "*.query", "times": 0.5, "ref": "math"}],
}  # fmt: skip


@pytest.fixture
def three(bank, add):
    return {f"{name}@1": add(name, seed=seed, rank=3) for seed, name in enumerate(NAMES)}


def exported(bank, ref, folder):
    bank.export(ref, folder / ref)
    return dense.deltas(folder / ref)


def total(three, weights):
    each = {ref: dense.deltas(folder) for ref, folder in three.items()}
    return {name: sum(w * each[ref][name] for ref, w in weights.items()) for name in next(iter(each.values()))}


@pytest.mark.parametrize("settings", [{}, MANY])
def test_a_file_makes_the_same_merge_from_the_same_recipe(bank, three, settings):
    made = bank.merge("ties", WEIGHTS, name="m", **settings)
    text = bank.recipe_text("m")
    again = bank.merge_recipe(text, name="m")
    assert (again.status, again.ref) == ("unchanged", made.ref)
    other = bank.merge_recipe(text, name="other")
    assert bank.recipe_digest("other") == bank.recipe_digest("m") and other.version.content == made.version.content
    assert [(part["ref"], part["weight"]) for part in yaml.safe_load(text)["inputs"]] == list(WEIGHTS.items())


def test_a_file_works_in_another_bank_by_digest(bank, three, tmp_path):
    made = bank.merge("ties", WEIGHTS, name="m")
    text = bank.recipe_text("m")
    with Bank.open(tmp_path / "other", create=True) as other:
        with pytest.raises(NotFoundError, match="no version in this bank has the content"):
            other.merge_recipe(text, name="m")
        for ref, folder in three.items():
            other.register(folder, name=f"my-{ref.partition('@')[0]}")
        again = other.merge_recipe(text, name="m")
        assert again.version.content == made.version.content
        assert other.recipe("m").body["refs"] == ["my-sql@1", "my-math@1", "my-law@1"]


def test_a_file_by_hand_and_what_is_wrong_with_others(bank, three):
    merged = bank.merge_recipe("method: cat\ninputs: [sql, {ref: math@1, weight: -0.5}]\nrank: 3\n", name="m")
    assert (merged.rank, bank.recipe("m").body["refs"]) == (3, ["sql@1", "math@1"])
    other = bank.find("math").content
    with pytest.raises(ConflictError, match=r"sql@1 has the content .* the recipe says"):
        bank.merge_recipe(f"method: cat\ninputs: [{{ref: sql@1, digest: {other}}}]", name="m")
    with pytest.raises(NotFoundError):
        bank.merge_recipe("method: cat\ninputs: [nobody]", name="m")
    for wrong in ("method: nobody\ninputs: [sql]", "method: cat\ninputs: [sql]\nrank: {energy: 2}", "method: cat"):
        with pytest.raises(UsageError):
            bank.merge_recipe(wrong, name="m", where="r.yaml")


@pytest.mark.parametrize(
    ("rank", "check"),
    [
        ("exact", lambda m: m.rank == 9 and m.residual == 0.0),
        ({"energy": 0.9}, lambda m: 0.0 < m.residual**2 <= 0.1 and m.rank < 9),
        ({"error": 0.2}, lambda m: 0.0 < m.residual <= 0.2 and m.rank < 9),
        (None, lambda m: m.rank == 3),
    ],
)
def test_the_rank_by_number_energy_error_or_exact(bank, three, rank, check):
    merged = bank.merge("task_arithmetic", WEIGHTS, name="m", rank=rank)
    assert check(merged) and bank.replay("m").outcome == "bits"
    assert json.loads(bank.recipe("m").body["recipe"])["rank"] == rank


def test_weights_by_module_and_adapter(bank, three, tmp_path):
    rules = [{"ref": "math", "modules": "*.query", "times": 0.0}, {"modules": "re:dense$", "weight": 2.0}]
    bank.merge("cat", WEIGHTS, name="m", schedules=rules)
    found, plain = exported(bank, "m@1", tmp_path), total(three, WEIGHTS)
    without = total(three, {**WEIGHTS, "math@1": 0.0})
    twice = total(three, dict.fromkeys(WEIGHTS, 2.0))
    wanted = {QUERY: without[QUERY], VALUE: plain[VALUE], DENSE: twice[DENSE]}
    assert dense.distance(found, wanted) < 1e-6 and bank.replay("m").outcome == "bits"
    with pytest.raises(UsageError, match="fits none"):
        bank.merge("cat", WEIGHTS, name="n", schedules=[{"modules": "nothing", "times": 1.0}])


def test_absent_modules_are_zero_shared_out_or_refused(bank, make, tmp_path):
    shapes = {QUERY: (16, 12), VALUE: (16, 12)}
    folders = {"a@1": make("a", modules=shapes, seed=1), "b@1": make("b", modules={QUERY: (16, 12)}, seed=2)}
    for ref, folder in folders.items():
        bank.register(folder, name=ref.partition("@")[0])
    each = {ref: dense.deltas(folder) for ref, folder in folders.items()}
    ones = dict.fromkeys(folders, 1.0)
    bank.merge("average", ones, name="zero", rank=4)
    bank.merge("average", ones, name="shared", rank=4, absent="renormalize")
    np.testing.assert_allclose(exported(bank, "zero@1", tmp_path)[VALUE], each["a@1"][VALUE] / 2, atol=1e-6)
    np.testing.assert_allclose(exported(bank, "shared@1", tmp_path)[VALUE], each["a@1"][VALUE], atol=1e-6)
    with pytest.raises(ValueError, match="lacks 1 of 2 modules"):
        bank.merge("average", ones, name="refused", absent="refuse")


def test_one_constituent_less_and_one_more(bank, three, add):
    first = bank.merge("ties", {"sql@1": 1.0, "math@1": -0.5}, name="m", options={"density": 0.5}, seed=2)
    assert bank.merge("ties", WEIGHTS, name="all", options={"density": 0.5}, seed=2)
    more = bank.merge_again("m", add={"law": 0.75})
    assert (more.ref, more.version.content) == ("m@2", bank.find("all").content)
    less = bank.merge_again("m@2", remove="law")
    assert (less.status, less.ref) == ("unchanged", first.ref)
    named = bank.merge_again("all", remove="sql@1", name="rest")
    assert bank.recipe("rest").body["refs"] == ["math@1", "law@1"] and named.ref == "rest@1"
    for how in ({}, {"add": {"law": 1.0}, "remove": "sql"}, {"add": {"sql": 1.0}}, {"remove": "law"}):
        with pytest.raises(UsageError):
            bank.merge_again("m@1", **how)
    with pytest.raises(NotFoundError, match="is no merge"):
        bank.merge_again("sql", add={"law": 1.0})


def test_a_sequential_merge_goes_on_from_its_state(bank, three, add, tmp_path):
    """The next step of OPCM needs the merge and its state, and gives what all steps at once give, up to float32."""
    bank.merge("opcm", {"sql@1": 1.0, "math@1": 1.0}, name="m")
    more = bank.merge_again("m", add={"law": 1.0})
    assert bank.recipe(more.ref).body["refs"] == ["m@1", "law@1"]
    bank.merge("opcm", {"sql@1": 1.0, "math@1": 1.0, "law@1": 1.0}, name="whole")
    assert dense.distance(exported(bank, more.ref, tmp_path), exported(bank, "whole@1", tmp_path)) < 1e-5
    assert bank.replay(more.ref).outcome == "bits"
    add("fourth", seed=9, rank=3)
    assert bank.merge_again(more.ref, add={"fourth": 1.0}).ref == "m@3"
    with pytest.raises(UsageError, match="continues m@1"):
        bank.merge_again(more.ref, remove="law")
    assert bank.merge_recipe(bank.recipe_text(more.ref), name="m").status == "unchanged"


def test_artefacts_follow_a_merge_with_less_and_more(bank, three):
    setting = hook.setting(list(WEIGHTS))
    bank.merge("regmean", {"sql@1": 1.0, "math@1": 1.0}, name="m", setting=setting)
    less = bank.merge_again("m", remove="math")
    assert len(less.artefacts) == 1 and bank.artefact(less.artefacts[0]).versions == ("sql@1",)
    with pytest.raises(NotFoundError, match="the gram of law@1"):
        bank.merge_again("m@1", add={"law": 1.0})
    more = bank.merge_again("m@1", add={"law": 1.0}, setting=setting)
    assert len(more.artefacts) == 3 and bank.replay(more.ref).outcome == "bits"


def test_weights_from_metrics(bank, three):
    for name, value in (("sql", 0.9), ("math", 0.5), ("law", 0.7)):
        bank.label(name, metrics={"loss": value})
    ones = dict.fromkeys(WEIGHTS, 1.0)
    bank.merge("metrics_weighted", ones, name="m", metric="loss", options={"form": "power", "beta": 1.0})
    weights = [part["weight"] for part in json.loads(bank.recipe("m").body["recipe"])["inputs"]]
    raw = np.array([1 / 0.9, 1 / 0.5, 1 / 0.7])
    np.testing.assert_allclose(weights, raw / raw.sum())
    assert bank.replay("m").outcome == "bits"
    with pytest.raises(UsageError, match="which one"):
        bank.merge("metrics_weighted", ones, name="n")
    with pytest.raises(UsageError, match="no metric 'acc' of sql@1, math@1, law@1"):
        bank.merge("metrics_weighted", ones, name="n", metric="acc")


def test_a_greedy_soup_keeps_what_does_not_make_it_worse(bank, three):
    for name, value in (("sql", 0.9), ("math", 0.5), ("law", 0.7)):
        bank.label(name, metrics={"acc": value})
    asked = []

    def evaluate(directory, refs):
        asked.append(tuple(refs))
        return {"task": {("sql@1",): 0.9, ("sql@1", "law@1"): 0.8, ("sql@1", "math@1"): 0.95}[tuple(refs)]}

    bank.merge("greedy_soup", dict.fromkeys(WEIGHTS, 1.0), name="m", metric="acc", evaluate=evaluate)
    assert asked == [("sql@1",), ("sql@1", "law@1"), ("sql@1", "math@1")]
    inputs = json.loads(bank.recipe("m").body["recipe"])["inputs"]
    assert [part["weight"] for part in inputs] == [1.0, 1.0, 0.0]
    with pytest.raises(UsageError, match="judges averages"):
        bank.merge("greedy_soup", dict.fromkeys(WEIGHTS, 1.0), name="n", metric="acc")
