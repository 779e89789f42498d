"""Aliases and base models on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.adapters import write_adapter
from tests.cli.conftest import Run


def aliases(run: Run, *words: object) -> list[tuple[str, str, int]]:
    return [(held["name"], held["alias"], held["version"]) for held in run("alias", "list", *words, "--json").json["aliases"]]


def test_an_alias_moves_and_goes(run: Run):
    assert aliases(run) == [("sql", "prod", 2)]
    assert run("alias", "set", "sql@prod", 1, "--json").json["old"] == 2
    assert aliases(run, "sql") == [("sql", "prod", 1)]
    assert run("alias", "remove", "sql@prod", "--dry-run", "--json").json["dry_run"]
    assert aliases(run) == [("sql", "prod", 1)]
    assert run("alias", "remove", "sql@prod").out == "removed sql@prod (version 1)\n"
    assert aliases(run) == []
    assert run("alias", "remove", "sql@prod").code == 3


def test_expect_is_a_compare_and_swap(run: Run):
    lost = run("alias", "set", "sql@prod", 1, "--expect", 1, "--json")
    assert (lost.code, lost.error["code"]) == (4, "conflict")
    assert run("alias", "set", "sql@prod", 1, "--expect", "none").code == 4
    assert run("alias", "set", "sql@prod", 1, "--expect", 2).code == 0
    assert run("alias", "set", "sql@new", 1, "--expect", "none").code == 0
    assert aliases(run) == [("sql", "new", 1), ("sql", "prod", 1)]


def test_an_alias_of_a_version_that_is_not_there(run: Run):
    assert run("alias", "set", "sql@prod", 9).code == 3


def test_base_models_have_other_names(run: Run, tmp_path: Path):
    added = run("model", "add", "org/llama", "--quantization", "nf4", "--json").json
    assert (added["name"], added["quantization"]) == ("org/llama", "nf4")
    assert run("model", "alias", "org/llama", "/models/llama", "--json").json["aliases"] == ["/models/llama"]
    write_adapter(tmp_path / "a", base_model="/models/llama")
    assert run("register", tmp_path / "a", "--name", "a", "--json").json["version"]["base_model"] == "org/llama"
    names = [model["name"] for model in run("model", "list", "--json").json["base_models"]]
    assert names == ["org/llama", "tiny/copy", "tiny/encoder"]
    assert "org/llama" in run("model", "list").out
