"""Versions on the command line: register, list, search, show, history, export, labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.adapters import write_adapter
from tests.cli.conftest import NAMES, Run

FILES = ("adapter_config.json", "adapter_model.safetensors")


def refs(run: Run, *words: object) -> list[str]:
    return [version["ref"] for version in run(*words, "--json").json["versions"]]


def test_registered_bytes_come_back(run: Run, adapters: Path, tmp_path: Path):
    for ref, source in (("sql@1", "sql"), ("sql@prod", "sql2"), ("math", "math")):
        out = tmp_path / source
        exported = run("export", ref, out, "--json").json
        assert exported["exact"] and exported["path"] == str(out)
        assert all((out / file).read_bytes() == (adapters / source / file).read_bytes() for file in FILES)


def test_the_same_files_again_are_unchanged(run: Run, adapters: Path):
    again = run("register", adapters / "sql", "--name", "sql", "--json").json
    assert (again["ref"], again["status"]) == ("sql@1", "unchanged")


def test_equal_content_in_other_bytes_needs_force(run: Run, adapters: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(adapters / "sql", other)
    config = json.loads((other / FILES[0]).read_text())
    (other / FILES[0]).write_text(json.dumps(config))
    refused = run("register", other, "--name", "sql", "--json")
    assert (refused.code, refused.error["code"]) == (4, "conflict")
    assert run("register", other, "--name", "sql", "--force", "--json").json["ref"] == "sql@3"


def test_a_refused_directory_exits_with_7_and_every_problem(run: Run, tmp_path: Path):
    bad = write_adapter(tmp_path / "bad")
    (bad / FILES[1]).write_bytes(b"nothing of the kind")
    refused = run("register", bad, "--name", "bad", "--json")
    assert (refused.code, refused.out, refused.error["code"]) == (7, "", "refused_input")
    assert refused.error["details"][0]["code"]
    assert refs(run, "list", "--where", "name=bad") == []


def test_several_directories_under_one_name_are_successive_versions(run: Run, adapters: Path):
    done = run("register", adapters / "sql", adapters / "math", adapters / "new", "--name", "run", "--json").json
    assert [outcome["ref"] for outcome in done["outcomes"]] == ["run@1", "run@2", "run@3"]


def test_in_bulk_everything_acceptable_is_registered_and_the_rest_is_told(run: Run, tmp_path: Path):
    for seed in range(3):
        write_adapter(tmp_path / "many" / f"team{seed}" / f"a{seed}", seed=100 + seed)
    (tmp_path / "many" / "team1" / "a1" / FILES[1]).write_bytes(b"x")
    ran = run("register", "--recursive", tmp_path / "many", "--name-from", "dir", "--tag", "bulk=yes", "--json")
    assert (ran.code, ran.error["code"]) == (7, "refused_input")
    assert [ran.json[key] for key in ("registered", "unchanged", "restored", "refused")] == [2, 0, 0, 1]
    assert [(outcome["name"], outcome["status"]) for outcome in ran.json["outcomes"]] == [
        ("a0", "registered"),
        ("a1", "refused"),
        ("a2", "registered"),
    ]
    assert refs(run, "list", "--where", "tag.bulk=yes") == ["a0@1", "a2@1"]
    write_adapter(tmp_path / "many" / "team1" / "a1", seed=101)
    resumed = run("register", "--recursive", tmp_path / "many", "--name-from", "dir", "--json")
    assert resumed.code == 0
    assert (resumed.json["registered"], resumed.json["unchanged"]) == (1, 2)


def test_names_from_the_configuration(run: Run, tmp_path: Path):
    write_adapter(tmp_path / "many" / "a", seed=100, adapter_name="billing")
    write_adapter(tmp_path / "many" / "b", seed=101, base_model="org/llama-3-8b")
    ran = run("register", "--recursive", tmp_path / "many", "--name-from", "config", "--json")
    assert [outcome["name"] for outcome in ran.json["outcomes"]] == ["billing", "llama-3-8b-b"]


@pytest.mark.parametrize(
    "words",
    [
        ("register", "{in}/sql"),
        ("register", "{in}/sql", "--name", "a", "--name-from", "dir"),
        ("register", "--name", "a"),
        ("register", "{in}/sql", "{in}/math", "--name", "a", "--alias", "prod"),
    ],
)
def test_registrations_that_make_no_sense(words: tuple[str, ...], run: Run, adapters: Path):
    ran = run(*(word.format(**{"in": adapters}) for word in words), "--json")
    assert (ran.code, ran.error["code"]) == (2, "usage")


def test_list_filters_sorts_and_limits(run: Run):
    everything = refs(run, "list")
    assert sorted(everything) == ["both@1", "law@1", "math@1", "sql@1", "sql@2"]
    assert refs(run, "list", "sql") == ["sql@1", "sql@2"]
    assert refs(run, "list", "--sort", "-created", "--limit", 1) == ["both@1"]
    assert refs(run, "list", "--where", "acc>0.4 and not name=law") == ["math@1", "sql@1"]


def test_search_is_an_expression(run: Run):
    assert refs(run, "search", "rank=4 and base~tiny", "--sort", "-id", "--limit", 2) == ["sql@2", "law@1"]
    broken = run("search", "rank=")
    assert broken.code == 2 and "^" in broken.err


def test_show_has_recipe_forms_and_dependents(run: Run):
    merge = run("show", "both", "--json").json
    assert (merge["recipe"]["method"], merge["method"]) == ("average", "average")
    part = run("show", "sql@1", "--json").json
    assert [form["basis"] for form in part["forms"]] == ["b1@1"]
    assert any("both@1" in edge["dependent"] for edge in part["dependents"])
    text = run("show", "sql@1").out
    assert "Stored forms" in text and "Needed by" in text
    assert "Recipe" in run("show", "both").out


def test_any_reference_finds_the_version(run: Run):
    files = run("show", "sql@2", "--json").json["files"]
    assert {run("show", ref, "--json").json["ref"] for ref in ("sql", "sql@2", "sql@prod", f"sha256:{files[:12]}")} == {"sql@2"}
    missing = run("show", "sql@9", "--json")
    assert (missing.code, missing.error["code"]) == (3, "not_found")


def test_history_has_every_move_of_an_alias(run: Run):
    run("alias", "set", "sql@prod", 1)
    run("alias", "remove", "sql@prod")
    told = run("history", "sql", "--json").json
    assert [version["ref"] for version in told["versions"]] == ["sql@1", "sql@2"]
    moves = [(event["alias"], event["old"], event["new"]) for event in told["events"]]
    assert sorted(moves, key=str) == sorted([("prod", None, 2), ("prod", 2, 1), ("prod", 1, None)], key=str)


def test_labels(run: Run):
    assert run("tag", "sql@1", "stage=eval", "--remove", "team", "--json").json["tags"] == {"stage": "eval"}
    assert run("metric", "sql@1", "f1=0.75", "--json").json["metrics"] == {"acc": 0.5, "f1": 0.75}
    assert run("note", "sql@1", "cleaned", "--json").json["note"] == "cleaned"
    nothing = run("tag", "sql@1", "--json")
    assert (nothing.code, nothing.error["code"]) == (2, "usage")


def test_register_takes_labels(run: Run, adapters: Path):
    words = ("--alias", "first", "--tag", "a=b=c", "--metric", "acc=1e-3", "--note", "n", "--parent", "sql@1")
    version = run("register", adapters / "new", "--name", "new", *words, "--base-model", "tiny/encoder", "--json").json[
        "version"
    ]
    assert (version["aliases"], version["tags"], version["metrics"]) == (["first"], {"a": "b=c"}, {"acc": 0.001})
    assert (version["note"], version["parent"]) == ("n", "sql@1")


def test_every_name_of_the_bank_is_listed(run: Run):
    text = run("list").out
    assert all(name in text for name in NAMES)


def test_a_folder_that_is_not_there_is_not_found(run: Run, adapters: Path):
    ran = run("register", "--recursive", adapters / "none", "--name-from", "dir", "--json")
    assert (ran.code, ran.error["code"]) == (3, "not_found")
