"""Merges on the command line beyond the plain one: data, recipes, one adapter more or less, looking before and after."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import HOOK, Run


def test_data_are_learned_from_once_and_a_replay_needs_none(run: Run):
    words = ("merge", "regmean", "sql@1", "math", "--with", f"{HOOK}:setting", "--name", "learned", "--json")
    merged = run(*words).json
    assert len(merged["artefacts"]) == 2
    listed = run("artefacts", "list", "--kind", "gram", "--json").json["artefacts"]
    assert [(each["versions"], each["ref"]) for each in listed] == [
        (["sql@1"], merged["artefacts"][0]), (["math@1"], merged["artefacts"][1]),
    ]  # fmt: skip
    assert run("replay", "learned", "--json").json["outcome"] == "bits"
    used = run("merge", "regmean", "sql@1", "math", "--using", "gram", "--name", "learned", "--json").json
    assert (used["status"], used["artefacts"]) == ("unchanged", merged["artefacts"])
    refused = run("artefacts", "remove", merged["artefacts"][0], "--json")
    assert (refused.code, refused.error["code"]) == (11, "in_use") and "learned@1" in refused.error["message"]
    shown = run("show", "learned").out
    assert "gram of sql@1" in shown


def test_what_was_learned_is_judged_on_what_is_held_out_and_explained_later(run: Run):
    words = ("merge", "regmean", "sql@1", "math", "--with", f"{HOOK}:setting", "--name")
    merged = run(*words, "learned", "--json").json
    [whole, cut] = merged["held_out"]["measured"]
    assert (whole["rank"], cut["rank"]) == (None, merged["rank"])
    assert set(whole["tasks"]) == {"sql@1", "math@1"} and merged["held_out"]["examples"] == 32
    assert run("explain", "learned", "--json").json["held_out"] == merged["held_out"]
    told = run(*words, "again", "--held-out", "1").out
    for word in ("Held out: 16 examples", "before: average", "regmean_loss", "not cut"):
        assert word in told, word
    explained = run("explain", "learned").out
    verdict = "better" if whole["after"] < whole["before"] else "WORSE"
    assert "Held out: 32 examples" in explained and verdict in explained and f"{whole['after']:.4g}" in explained
    assert run(*words, "unjudged", "--held-out", "0", "--json").json["held_out"] is None
    assert "Held out" not in run("explain", "both").out


def test_a_front_is_told_point_by_point(run: Run):
    words = ("calibrate", "map", "sql@1", "math", "--with", f"{HOOK}:setting", "--option", "tolerance=0", "--option", "upper=3")
    found = run(*words, "--json").json
    points = found["held_out"]["points"]
    assert len(points) == len(found["artefacts"]) > 1
    told = run(*words).out
    assert f"Points: {sum(point['non_dominated'] for point in points)} of {len(points)} non-dominated" in told
    shown = run("coefficients", "show", found["artefacts"][1]["ref"])
    assert "Points:" in shown.out and "number" in shown.out
    merged = run("merge", "map", "sql@1", "math", "--name", "best", "--json").json
    assert merged["artefacts"] == [found["artefacts"][0]["ref"]], "the best mean, not the last that was stored"


def test_a_recipe_goes_to_a_file_and_comes_back(run: Run, tmp_path: Path):
    words = ("--weights-by", "*.query=0,1", "--weights-by", "math:*=0.5", "--energy", "0.9", "--absent", "renormalize")
    first = run("merge", "ties", "sql@1", "math", "--name", "tied", "--prepare", "pico", *words, "--json").json
    written = run("recipe", "export", "tied", tmp_path / "r.yaml", "--json").json
    assert (tmp_path / "r.yaml").read_text() == written["text"] == run("recipe", "show", "tied@1").out
    again = run("merge", "--recipe", tmp_path / "r.yaml", "--name", "tied", "--json").json
    assert (again["status"], again["ref"]) == ("unchanged", first["ref"])
    recipe = run("show", "tied", "--json").json["recipe"]
    assert (recipe["rank"], recipe["absent"], recipe["prepare"][0]["name"]) == ({"energy": 0.9}, "renormalize", "pico")
    assert [rule["times"] for rule in recipe["schedules"]] == [[0.0, 1.0], 0.5]
    assert run("recipe", "export", "tied", tmp_path / "r.yaml", "--json").error["code"] == "conflict"


def test_one_adapter_more_and_less(run: Run):
    more = run("merge", "--from", "both", "--add", "law=0.5", "--rank", 8)
    assert (more.code, "--rank") == (2, "--rank") and "--rank" in more.err
    more = run("merge", "--from", "both", "--add", "law=0.5", "--name", "three", "--json").json
    assert more["ref"] == "three@1"
    less = run("merge", "--from", "three", "--remove", "law", "--json").json
    assert run("show", less["ref"], "--json").json["recipe"]["inputs"] == run("show", "both", "--json").json["recipe"]["inputs"]


def test_an_explanation_names_inputs_conflicts_and_the_modules_where_most_cancels(run: Run):
    told = run("explain", "both").out
    for word in ("Inputs", "sql@1", "Cosines", "opposite signs", "cancelled in the sum", "Modules", "residual", "█"):
        assert word in told, word
    before = run("explain", "sql@1", "math", "law=-1", "--json").json
    assert before["ref"] is None and before["weights"] == [1.0, 1.0, -1.0] and len(before["cosine"]) == 3
    assert run("explain", "sql@1").code == 3
    assert run("explain").code == 2


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="drawn with the extra plot only")
def test_plots_are_written(run: Run, tmp_path: Path):
    assert run("explain", "both", "--plot", tmp_path / "a.png").code == 0
    assert run("compare", "average", "cat", "--on", "sql@1", "math", "--plot", tmp_path / "b.svg").code == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (tmp_path / "b.svg").read_bytes()
    assert run("explain", "both", "--plot", tmp_path / "c.txt").code == 2


def test_methods_are_compared_with_an_evaluation(run: Run):
    words = (
        "compare",
        "average",
        "ties:density=0.5,scale=2",
        "fisher",
        "--on",
        "sql@1",
        "math=0.5",
        "--evaluate",
        f"{HOOK}:accuracy",
    )
    found = run(*words, "--rank", 2, "--json").json
    assert (found["inputs"], found["weights"]) == (["sql@1", "math@1"], [1.0, 0.5])
    average, ties, fisher = found["methods"]
    assert ties["options"] == {"density": "0.5", "scale": "2"} and average["rank"] == 2
    assert set(average["scores"]) == {"sql@1", "math@1"} and 0.0 <= average["score"] <= 1.0
    assert "fisher" in fisher["failed"] and fisher["score"] is None
    assert "failed" in run(*words).out


def test_a_blend_says_what_the_cut_lost(run: Run, tmp_path: Path):
    assert "exact" in run("blend", "sql@1=0.7", "math=0.3", "--out", tmp_path / "a").out
    assert (
        run("blend", "sql@1=0.7", "math=0.3", "--out", tmp_path / "b", "--max-error", "0.3", "--json").json["residual"] <= 0.3
    )
    assert run("blend", "sql@1", "math", "--out", tmp_path / "a", "--json").error["code"] == "conflict"


def test_coefficients_are_shown_compared_and_exported(run: Run, tmp_path: Path):
    [learned] = run("coefficients", "list", "--json").json["artefacts"]
    shown = run("coefficients", "show", learned["ref"], "--json").json
    assert set(shown["values"]) == {"sql@1", "math@1"} and shown["about"]["options"]["steps"] == 1
    assert "How it was found" in run("coefficients", "show", learned["ref"]).out
    run("calibrate", "frank_wolfe", "sql@1", "math", "--with", f"{HOOK}:setting", "--option", "max_iters=1")
    refs = [each["ref"] for each in run("coefficients", "list", "--json").json["artefacts"]]
    assert len(run("coefficients", "compare", *refs, "--json").json["cosine"]) == 2
    assert "±" in run("coefficients", "compare", *refs).out
    done = run("coefficients", "export", refs[0], "--name", "lora", "--rank", 4, "--out", tmp_path / "lora", "--json").json
    assert done["artefacts"] == [refs[0]] and (tmp_path / "lora" / "adapter_config.json").exists()
    assert run("coefficients", "show", "sha256:00000000", "--json").error["code"] == "not_found"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("merge --name m", 2, "expected a METHOD"),
        ("merge ties sql@1 math", 2, "needs a name"),
        ("merge ties sql@1 math --name m --rank 4 --exact", 2, "one way to say the rank"),
        ("merge ties sql@1 math --name m --recipe nowhere.yaml", 2, "does not go with"),
        ("merge --recipe nowhere.yaml --name m", 2, "cannot be read as a recipe"),
        ("merge --from both", 2, "one adapter to add"),
        ("merge --from both --add sql --option a=b", 2, "--option"),
        ("merge --from both --add sql --where rank=4", 2, "METHOD or --from"),
        ("merge ties sql@1 math --name m --weights-by query", 2, "expected a number"),
        ("merge ties sql@1 math --name m --prepare pcio", 2, "unknown preparation"),
        ("merge regmean sql@1 math --name m", 3, "adapterbank calibrate gram"),
        ("merge regmean sql@1 math --name m --with {hook}", 2, "FILE.py:FUNCTION"),
        ("merge regmean sql@1 math --name m --with nowhere.py:f", 3, "no Python file"),
        ("merge regmean sql@1 math --name m --with {hook}:nobody", 2, "has no function 'nobody'"),
        ("merge regmean sql@1 math --name m --with {hook}:broken", 2, "RuntimeError: no data today"),
        ("merge regmean sql@1 math --name m --with {hook}:nothing", 2, "expected adapterbank.calibration"),
        ("merge metrics_weighted sql@1 math --name m", 2, "--metric"),
        ("merge average sql@1 math --name m --device nowhere", 13, "nowhere"),
        ("calibrate gram sql@1", 2, "--with"),
        ("compare ties", 2, "at least one"),
        ("cluster sql@1 math --clusters 3", 2, "clusters"),
        ("explain nobody", 3, "nobody"),
    ],
)
def test_what_makes_no_sense_is_told_with_the_way_out(run: Run, words: str, code: int, said: str):
    ran = run(*words.format(hook=HOOK).split())
    assert ran.code == code, ran.err
    assert said in ran.err
    assert run("show", "m").code == 3, "nothing was registered"


def test_on_takes_every_word_up_to_the_next_option(run: Run):
    spread = run("compare", "average", "--on", "sql@1", "math", "law", "--rank", 2, "--json").json
    apart = run("compare", "--on", "sql@1", "--on=math", "average", "--on", "law", "--rank", 2, "--json")
    assert spread["inputs"] == ["sql@1", "math@1", "law@1"] and apart.code == 0
