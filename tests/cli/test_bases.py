"""Bases, reconstruction and compaction on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Run

BUILD = ("basis", "build", "b2", "sql@1", "math", "law")


def test_without_a_size_the_options_are_shown_and_the_exit_status_is_2(run: Run):
    ran = run(*BUILD, "--json")
    assert (ran.code, ran.error["code"]) == (2, "usage")
    assert "--components" in ran.error["hint"]
    options = ran.json["options"]
    assert [option["components"] for option in options] == sorted(option["components"] for option in options)
    assert options[-1]["error_worst"] < 1e-5 < options[0]["error_worst"]
    text = run(*BUILD).out
    assert "of originals" in text and "--bits B" in text and "--max-error E" in text
    assert [basis["ref"] for basis in run("basis", "list", "--json").json["bases"]] == ["b1@1"]


@pytest.mark.parametrize(
    ("size", "components"), [(("--components", 1), 1), (("--energy", 1), 2), (("--max-error", 1e-3), 2), (("--budget", 10), 2)]
)
def test_each_size_option_of_the_published_method_chooses_p(run: Run, size: tuple[object, ...], components: int):
    built = run(*BUILD, "--codec", "rmm", *size, "--force", "--json").json
    assert (built["codec"], built["components"]) == ("rmm", components)


@pytest.mark.parametrize("size", [("--bits", 5), ("--max-error", 0.5), ("--budget", 0.09)])
def test_a_size_alone_codes_each_adapter(run: Run, size: tuple[str, float]):
    built = run(*BUILD, *size, "--force", "--json").json
    assert (built["codec"], built["components"], built["members"]) == ("rd", None, 3)
    shown = run("basis", "show", "b2", "--json").json
    assert shown["settings"].pop("effort") == 1
    ((name, value),) = shown["settings"].items()
    parameters = run("show", "sql@1", "--json").json["parameters"]
    if size[0] == "--max-error":
        assert name == "max_error" and built["error_worst"] <= value == 0.5
    else:
        assert name == "bits" and all(8 * form["bytes"] <= value * parameters for form in shown["forms"])
    if size[0] == "--budget":
        originals = sum(run("show", ref, "--json").json["bytes"] for ref in ("sql@1", "math", "law"))
        assert shown["bytes"] + sum(form["bytes"] for form in shown["forms"]) <= size[1] * originals


MIXED = [
    ("--bits", 1, "--gauge", "svd"),
    ("--bits", 1, "--store-dtype", "float16"),
    ("--bits", 1, "--codec", "rmm"),
    ("--components", 1, "--codec", "rd"),
    ("--energy", 0.5, "--effort", 2),
    ("--max-error", 0.5, "--gauge", "svd", "--codec", "rd"),
]


@pytest.mark.parametrize("words", MIXED, ids=lambda words: " ".join(map(str, words)))
def test_options_of_the_two_methods_do_not_mix(run: Run, words: tuple[object, ...]):
    ran = run(*BUILD, *words, "--json")
    assert (ran.code, ran.error["code"]) == (2, "usage")
    assert "published method" in ran.error["message"]


def test_an_error_in_a_gauge_means_the_published_method(run: Run):
    assert run(*BUILD, "--max-error", 1e-3, "--gauge", "svd", "--force", "--json").json["codec"] == "rmm"


def test_without_a_size_of_the_coder_nothing_is_measured(run: Run):
    ran = run(*BUILD, "--codec", "rd", "--json")
    assert (ran.code, ran.out, ran.error["code"]) == (2, "", "usage")
    assert ran.error["hint"].endswith("--max-error 0.35")


def test_two_sizes_make_no_sense(run: Run):
    ran = run(*BUILD, "--components", 1, "--energy", 0.5, "--json")
    assert (ran.code, ran.error["code"]) == (2, "usage")
    assert "--energy" in ran.error["message"]


def test_gauge_and_dtype_are_recorded(run: Run):
    built = run(*BUILD, "--components", 2, "--gauge", "svd", "--store-dtype", "bfloat16", "--force", "--json").json
    assert (built["gauge"], built["dtype"], built["members"]) == ("svd", "bfloat16", 3)


def test_show_has_the_error_of_every_member_and_module(run: Run):
    shown = run("basis", "show", "b1", "--json").json
    assert [form["version"] for form in shown["forms"]] == ["law@1", "math@1", "sql@1"]
    assert all(len(form["module_errors"]) == 3 and form["error"] < 1e-4 for form in shown["forms"])
    assert all(form["modules"] is None for form in shown["forms"])
    text, more = run("basis", "show", "b1").out, run("basis", "show", "b1", "--modules").out
    assert "encoder.layer.0.output.dense" not in text and "encoder.layer.0.output.dense" in more


def test_show_tells_how_every_module_is_stored(run: Run):
    run(*BUILD, "--max-error", 0.5, "--force")
    for basis in ("b1", "b2"):
        for form in run("basis", "show", basis, "--modules", "--json").json["forms"]:
            assert [module["name"] for module in form["modules"]] == sorted(form["module_errors"])
            assert all(0 <= module["live"] <= module["rank"] == 4 for module in form["modules"])
            assert 0 < sum(module["bytes"] for module in form["modules"]) <= form["bytes"] * 1.01
    table = run("basis", "show", "b2", "--modules").out
    assert "predicted from" in table and "max_error=0.5" in table
    assert "predicted from" in run("show", "sql@1", "--modules").out
    assert "predicted from" not in run("show", "sql@1").out


def test_adding_above_the_bound_needs_force(run: Run):
    refused = run("basis", "add", "b1", "sql@2", "--json")
    assert (refused.code, refused.error["code"]) == (14, "error_bound")
    added = run("basis", "add", "b1", "sql@2", "--force", "--json").json["forms"]
    assert [(form["version"], form["basis"]) for form in added] == [("sql@2", "b1@1")]


def test_rebuild_shows_before_and_after(run: Run):
    rebuilt = run("basis", "rebuild", "b1", "--components", 1, "--force", "--json").json
    assert (rebuilt["before"]["ref"], rebuilt["after"]["ref"], rebuilt["removed"]) == ("b1@1", "b1@2", True)
    assert rebuilt["after"]["error_worst"] > rebuilt["before"]["error_worst"]
    text = run("basis", "rebuild", "b1", "sql@1", "math", "sql@2", "--components", 2, "--force").out
    assert "b1@3" in text and "sql@2" in text


def test_remove_after_a_dry_run(run: Run):
    assert run("basis", "remove", "b1", "--dry-run", "--json").json["dry_run"]
    assert run("basis", "show", "b1").code == 0
    assert run("basis", "remove", "b1", "--json").json["refs"] == ["b1@1"]
    assert run("basis", "show", "b1").code == 3


def test_reconstruct_writes_a_directory_and_names_the_form(run: Run, tmp_path: Path):
    written = run("reconstruct", "math", tmp_path / "out", "--json").json
    assert (written["ref"], written["basis"], written["error_kind"]) == ("math@1", "b1@1", "measured")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    half = run("reconstruct", "math", tmp_path / "half", "--basis", "b1", "--dtype", "bfloat16", "--json").json
    assert half["bytes"] < written["bytes"]
    assert run("reconstruct", "sql@2", tmp_path / "none").code == 3


COMPACT = ("compact", "law", "--level", "bounded")


def test_compact_says_what_is_missing(run: Run):
    """First --drop-exact, then --yes; each hint is the line to run."""
    first = run(*COMPACT, "--json")
    assert (first.code, first.error["code"]) == (2, "usage")
    assert first.error["hint"].endswith("--drop-exact")
    second = run(*COMPACT, "--drop-exact", "--json")
    assert (second.code, second.error["code"]) == (2, "usage")
    assert second.error["hint"].endswith("compact law --level bounded --drop-exact --json --yes")
    assert run("show", "law", "--json").json["level"] == "original"


def test_compact_drops_the_exact_bytes(run: Run, tmp_path: Path):
    planned = run(*COMPACT, "--drop-exact", "--dry-run", "--json").json
    assert planned["dry_run"] and run("show", "law", "--json").json["level"] == "original"
    done = run(*COMPACT, "--drop-exact", "--yes", "--json").json
    assert (done["refs"], done["forms"]["law@1"]["basis"]) == (["law@1"], "b1@1")
    assert done["bytes_freed"] > 0
    refused = run("export", "law", tmp_path / "exact", "--json")
    assert (refused.code, refused.error["code"]) == (10, "bounded_only")
    bounded = run("export", "law", tmp_path / "bounded", "--bounded", "--json").json
    assert not bounded["exact"] and bounded["error"] < 1e-4
    held = run("basis", "remove", "b1", "--json")
    assert (held.code, held.error["code"]) == (11, "in_use")
    assert held.error["details"]


def typed(bank: Path, answer: bytes) -> int:
    """The exit status of compact on a terminal where a person answers."""
    master, slave = os.openpty()
    words = [sys.executable, "-c", "from adapterbank.cli.main import main; main()", "--bank", str(bank), *COMPACT]
    with subprocess.Popen([*words, "--drop-exact"], stdin=slave, stdout=subprocess.PIPE, stderr=slave) as process:
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(master, 1024)
        os.write(master, answer)
        os.close(slave)
        with suppress(OSError):  # the terminal ends with the last process that has it open
            while os.read(master, 1024):  # a progress bar that nobody reads would fill it and wait
                pass
        process.communicate()
    os.close(master)
    return process.returncode


def test_on_a_terminal_compact_asks(run: Run, bank: Path):
    assert typed(bank, b"n\n") == 130
    assert run("show", "law", "--json").json["level"] == "original"
    assert typed(bank, b"y\n") == 0
    assert run("show", "law", "--json").json["level"] == "bounded"


def test_registering_a_compacted_version_again_restores_it(run: Run, adapters: Path, tmp_path: Path):
    assert run(*COMPACT, "--drop-exact", "--yes").code == 0
    assert run("register", adapters / "law", "--name", "law", "--json").json["status"] == "restored"
    assert run("export", "law", tmp_path / "law", "--json").json["exact"]


def test_compact_lists_the_merges_whose_revert_becomes_bounded(run: Run):
    done = run("compact", "sql@1", "--level", "bounded", "--basis", "b1", "--drop-exact", "--yes")
    assert "revert of both@1 becomes bounded" in done.out


def test_the_size_that_is_proposed_can_be_built(run: Run):
    """Of two members no more than one component differs from the mean."""
    asked = ("basis", "build", "pair", "sql@1", "math")
    proposed = run(*asked, "--json").error["hint"].split()[-2:]
    assert proposed == ["--components", "1"]
    assert run(*asked, *proposed).code == 0
