"""Registering through the façade: what is the same, what is new, what is refused, and what a refusal leaves behind."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapterbank.errors import ConflictError, NotFoundError, RefusedInputError, UsageError
from tests.adapters import safetensors_bytes, write_adapter
from tests.bank.state import objects, state

FILES = ("adapter_config.json", "adapter_model.safetensors")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def in_other_bytes(directory: Path) -> Path:
    """The same tensors and settings: tensors in another order, target modules too, other white space."""
    config, weights = (directory / name for name in FILES)
    fields = json.loads(config.read_text())
    fields["target_modules"] = fields["target_modules"][::-1]
    config.write_text(json.dumps(fields))
    weights.write_bytes(safetensors_bytes(dict(sorted(load_file(weights).items(), reverse=True))))
    return directory


def test_the_same_files_again_are_the_same_version(bank, place, make):
    first = bank.register(make("sql"), name="sql")
    before = state(place)
    again = bank.register(make("copy"), name="sql")
    assert (first.status, again.status) == ("registered", "unchanged")
    assert again.version == first.version and state(place) == before


def test_files_of_an_older_version_are_that_version(bank, make):
    bank.register(make("one", seed=1), name="sql")
    bank.register(make("two", seed=2), name="sql")
    assert bank.register(make("one", seed=1), name="sql").version.ref == "sql@1"
    assert bank.find("sql").ref == "sql@2"


def test_registering_again_adds_labels_and_moves_the_alias(bank, make):
    bank.register(make("one", seed=1), name="sql", tags={"team": "data"}, alias="prod")
    bank.register(make("two", seed=2), name="sql")
    again = bank.register(make("one", seed=1), name="sql", tags={"lang": "en"}, metrics={"acc": 0.5}, note="checked")
    assert (dict(again.version.tags), dict(again.version.metrics)) == ({"team": "data", "lang": "en"}, {"acc": 0.5})
    assert again.version.note == "checked" and bank.find("sql@prod").number == 1
    bank.register(make("two", seed=2), name="sql", alias="prod")
    assert bank.find("sql@prod").number == 2


def test_the_same_content_in_other_bytes_is_refused_and_forced(bank, place, make):
    directory = make("sql")
    first = bank.register(directory, name="sql").version
    before = state(place)
    with pytest.raises(ConflictError, match="sql@1 has the same tensors"):
        bank.register(in_other_bytes(directory), name="sql")
    assert state(place) == before
    forced = bank.register(directory, name="sql", force=True)
    assert (forced.status, forced.version.ref) == ("registered", "sql@2")
    assert forced.version.content == first.content and forced.version.files != first.files


def test_other_content_under_the_same_name_is_the_next_version(bank, make):
    refs = [bank.register(make(f"v{seed}", seed=seed), name="sql").version.ref for seed in range(3)]
    assert refs == ["sql@1", "sql@2", "sql@3"]
    assert [version.ref for version in bank.history("sql").versions] == refs


def test_numbers_and_ids_are_never_given_again(bank, make):
    found = [bank.register(make(f"v{seed}", seed=seed), name="sql").version for seed in range(2)]
    bank.remove(["sql@2"])
    found.append(bank.register(make("v2", seed=2), name="sql").version)
    bank.remove(["sql@1", "sql@3"])
    found.append(bank.register(make("v0", seed=0), name="sql").version)
    assert [version.number for version in found] == [1, 2, 3, 4]
    assert len({version.id for version in found}) == 4


def test_one_adapter_under_two_names_is_stored_once(bank, place, make):
    bank.register(make("sql"), name="sql")
    before = objects(place)
    other = bank.register(make("sql"), name="twin")
    assert (other.status, other.version.ref) == ("registered", "twin@1") and objects(place) == before
    bank.remove(["sql"])
    assert bank.verify().problems == () and objects(place) == before


def test_both_digests_are_what_they_say(bank, make):
    directory = make("sql")
    version = bank.register(directory, name="sql").version
    digests = [hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in FILES]
    assert [version.config, version.weights] == digests
    text = "".join(f"{name}:{digest}\n" for name, digest in zip(FILES, digests, strict=True))
    assert version.files == hashlib.sha256(text.encode()).hexdigest()
    assert bank.find(f"sha256:{version.files[:12]}") == version
    assert version.bytes == sum((directory / name).stat().st_size for name in FILES)


def test_export_gives_the_bytes_back(bank, make, tmp_path):
    directory = make("sql", dtype="bfloat16", use_rslora=True)
    bank.register(directory, name="sql")
    done = bank.export("sql", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(directory)
    assert (done.exact, done.error, done.version.ref) == (True, 0.0, "sql@1")
    with pytest.raises(ConflictError, match="not an empty directory"):
        bank.export("sql", tmp_path / "out")


def test_other_files_are_listed_and_not_kept(bank, make, tmp_path):
    directory = make("sql")
    (directory / "README.md").write_text("hello")
    (directory / "runs").mkdir()
    done = bank.register(directory, name="sql")
    assert done.not_kept == ("README.md", "runs/")
    bank.export("sql", tmp_path / "out")
    assert set(contents(tmp_path / "out")) == set(FILES)


def test_the_base_model_comes_from_the_configuration_unless_it_is_given(bank, make):
    assert bank.register(make("a"), name="a").version.base_model == "tiny/encoder"
    assert bank.register(make("b", seed=1), name="b", base_model="other/encoder").version.base_model == "other/encoder"
    assert (
        bank.register(make("c", seed=2, base_model=None), name="c", base_model="tiny/encoder").version.base_model
        == "tiny/encoder"
    )


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_base_model_it_is_refused(bank, place, make, nothing):
    before = state(place)
    with pytest.raises(RefusedInputError, match="base model") as refused:
        bank.register(make("sql", base_model=nothing), name="sql")
    assert [problem.code for problem in refused.value.problems] == ["base_model_missing"]
    assert "--base-model" in str(refused.value) and state(place) == before


def test_a_known_version_is_not_silently_left_on_another_base_model(bank, place, make):
    bank.register(make("sql"), name="sql")
    before = state(place)
    with pytest.raises(ConflictError, match=r"sql@1.*tiny/encoder.*other/encoder"):
        bank.register(make("sql"), name="sql", base_model="other/encoder")
    assert state(place) == before
    bank.alias_base_model("tiny/encoder", "other/encoder")
    assert bank.register(make("sql"), name="sql", base_model="other/encoder").status == "unchanged"


def test_an_alias_of_a_base_model_means_the_same_model(bank, make):
    bank.add_base_model("tiny/encoder")
    bank.alias_base_model("tiny/encoder", "/models/encoder")
    version = bank.register(make("sql", base_model="/models/encoder"), name="sql").version
    assert version.base_model == "tiny/encoder"
    assert [(model.name, model.aliases) for model in bank.base_models()] == [("tiny/encoder", ("/models/encoder",))]


def test_what_is_refused_leaves_no_trace(bank, place, make):
    directory = make("bad")
    tensors = dict(load_file(directory / FILES[1]))
    first = sorted(tensors)[0]
    tensors[first] = np.full_like(tensors[first], np.nan)
    del tensors[sorted(tensors)[-1]]
    (directory / FILES[1]).write_bytes(safetensors_bytes(tensors))
    before = state(place)
    with pytest.raises(RefusedInputError) as refused:
        bank.register(directory, name="bad", base_model="a/new/one", tags={"a": "b"})
    assert {"not_finite", "unpaired"} <= {problem.code for problem in refused.value.problems}
    assert state(place) == before


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"name": "../x"}, UsageError),
        ({"name": "sql", "alias": "7"}, UsageError),
        ({"name": "sql", "parent": "nobody@1"}, NotFoundError),
        ({"name": "sql", "metrics": {"acc": float("nan")}}, UsageError),
    ],
)
def test_bad_arguments_leave_no_trace(bank, place, make, how, error):
    before = state(place)
    with pytest.raises(error):
        bank.register(make("sql"), **how)
    assert state(place) == before


def test_facts_labels_and_parent_are_kept(bank, make):
    bank.register(make("base"), name="base")
    version = bank.register(
        make("sql", seed=1, alpha=16, rank=4, use_rslora=True), name="sql", parent="base", alias="prod",
        tags={"team": "data"}, metrics={"acc": 0.75}, note="first",
    ).version  # fmt: skip
    assert (version.rank, version.alpha, version.rslora, version.parent) == (4, 16, True, "base@1")
    assert version.target_modules == ("dense", "query", "value") and version.parameters == 4 * 3 * 28
    assert (dict(version.tags), dict(version.metrics), version.note, version.aliases) == (
        {"team": "data"}, {"acc": 0.75}, "first", ("prod",),
    )  # fmt: skip
    assert [v.ref for v in bank.versions(where="rank=4 and base~tiny and acc>0.5")] == ["sql@1"]


def test_an_adapter_that_does_nothing_is_told(bank, make):
    directory = make("idle")
    tensors = {key: value * ("lora_A" in key) for key, value in load_file(directory / FILES[1]).items()}
    (directory / FILES[1]).write_bytes(safetensors_bytes(tensors))
    warnings = bank.register(directory, name="idle").warnings
    assert [(problem.code, problem.severity) for problem in warnings] == [("no_op", "warning")]


def test_in_bulk_a_refused_one_does_not_stop_the_others_and_twice_is_once(bank, place, make):
    items = [(make("a", seed=1), "a"), (make("b", base_model=None), "b"), (make("c", seed=3), "c"), (make("d"), "no/name")]
    first = list(bank.register_many(items))
    assert [(o.status, o.ref, o.code) for o in first] == [
        ("registered", "a@1", None),
        ("refused", None, "refused_input"),
        ("registered", "c@1", None),
        ("refused", None, "usage"),
    ]
    before = state(place)
    assert [o.status for o in bank.register_many(items)] == ["unchanged", "refused", "unchanged", "refused"]
    assert state(place) == before


def test_what_registering_returns_answers_like_its_version(bank, tmp_path):
    made = bank.register(write_adapter(tmp_path / "in"), name="a", tags={"k": "v"})
    found = bank.find("a")
    assert {field: getattr(made, field) for field in found.__slots__} == {
        field: getattr(found, field) for field in found.__slots__
    }
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.nonsense  # noqa: B018
