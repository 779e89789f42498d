"""Merges on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_weights_options_and_rank_reach_the_recipe(run: Run):
    words = ("ties", "sql@1=0.5", "law", "--name", "tied", "--option", "density=0.5", "--rank", 6, "--seed", 7)
    merged = run("merge", *words, "--json").json
    assert (merged["ref"], merged["status"], merged["rank"]) == ("tied@1", "registered", 6)
    recipe = run("show", "tied", "--json").json["recipe"]
    assert (recipe["method"], recipe["rank"], recipe["seed"]) == ("ties", 6, 7)
    assert recipe["residual"] == merged["residual"] and recipe["options"]["density"] == 0.5
    assert [(part["ref"], part["weight"]) for part in recipe["inputs"]] == [("sql@1", 0.5), ("law@1", 1.0)]
    assert run("merge", *words, "--json").json["status"] == "unchanged"


def test_a_large_residual_is_a_warning_on_stderr(run: Run):
    ran = run("merge", "average", "sql@1", "math", "law", "--name", "cut", "--rank", 1, "--json")
    assert ran.json["residual"] > 0.1
    assert "large_residual" in ran.err and "--rank" in ran.err
    assert [warning["code"] for warning in ran.json["warnings"]] == ["large_residual"]


def test_what_makes_no_sense(run: Run):
    for words in (
        ("nonsense", "sql", "math", "--name", "m"),
        ("average", "sql", "sql", "--name", "m"),
        ("average", "sql=heavy", "--name", "m"),
        ("ties", "sql", "math", "--name", "m", "--option", "nonsense=1"),
        ("average", "--name", "m"),
    ):
        ran = run("merge", *words, "--json")
        assert (ran.code, ran.error["code"]) == (2, "usage"), words


def test_methods_are_those_of_the_table(run: Run):
    from adapterbank.merge.methods import METHODS

    listed = {method["name"]: method for method in run("methods", "--json").json["methods"]}
    assert listed.keys() >= METHODS.keys()
    assert [option["name"] for option in listed["ties"]["options"]] == [option.name for option in METHODS["ties"].options]
    assert "ties" in run("methods").out


def test_replay_gives_the_same_bits(run: Run):
    assert run("replay", "both", "--json").json["outcome"] == "bits"
    assert run("replay", "both").out.startswith("both@1: bits")
    assert run("replay", "sql").code == 3


def test_revert_hands_back_the_constituents(run: Run, adapters: Path, tmp_path: Path):
    reverted = run("revert", "both", tmp_path / "parts", "--json").json
    assert [part["ref"] for part in reverted["constituents"]] == ["sql@1", "math@1"]
    for part, source in zip(reverted["constituents"], ("sql", "math"), strict=True):
        weights = "adapter_model.safetensors"
        assert part["exact"] and (Path(part["path"]) / weights).read_bytes() == (adapters / source / weights).read_bytes()
