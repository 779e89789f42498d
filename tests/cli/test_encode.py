"""Coding versions on their own on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_each_version_gets_a_form_of_its_own(run: Run):
    encoded = run("encode", "sql@1", "math", "--max-error", 0.4, "--json").json["encoded"]
    assert [(made["ref"], made["codec"], made["status"]) for made in encoded] == [
        ("sql@1", "rd", "new"),
        ("math@1", "rd", "new"),
    ]
    for made in encoded:
        shown = run("show", made["ref"], "--json").json
        (form,) = (form for form in shown["forms"] if form["basis"] is None)
        assert made["error"] == form["error"] <= 0.4 and made["bytes"] == form["bytes"]
        assert made["bits"] == pytest.approx(8 * form["bytes"] / shown["parameters"])
        assert made["ratio"] == pytest.approx(form["bytes"] / shown["bytes"])
    text = run("encode", "law", "--bits", 5).out
    assert "bits per parameter" in text and "law@1" in text


@pytest.mark.parametrize(("words", "error"), [((), 0.35), (("--quality", "high"), 0.1), (("--quality", "small"), 0.6)])
def test_a_quality_is_an_error(run: Run, words: tuple[str, ...], error: float):
    (made,) = run("encode", "sql@1", *words, "--json").json["encoded"]
    assert 0.5 * error < made["error"] <= error


def test_coding_again_replaces_and_the_same_again_does_not(run: Run):
    said = [run("encode", "sql@1", "--max-error", error, "--json").json["encoded"][0]["status"] for error in (0.5, 0.5, 0.3)]
    assert said == ["new", "unchanged", "replaced"]
    forms = run("show", "sql@1", "--json").json["forms"]
    assert [(form["basis"], form["codec"]) for form in forms] == [("b1@1", "rmm"), (None, "rd")]


def test_the_fixed_form_stands_beside_the_coded_one(run: Run, tmp_path: Path):
    run("encode", "sql@1", "--quality", "small")
    (fixed,) = run("encode", "sql@1", "--fixed", "--quality", "small", "--json").json["encoded"]
    assert fixed["codec"] == "fixed" and fixed["error"] <= 0.6
    written = run("reconstruct", "sql@1", tmp_path / "out", "--codec", "fixed", "--json").json
    assert (written["codec"], written["basis"], written["error"]) == ("fixed", None, fixed["error"])
    assert "its form fixed" in run("reconstruct", "sql@1", tmp_path / "more", "--codec", "fixed").out


def test_forms_are_given_back(run: Run):
    run("encode", "sql@1", "math")
    run("encode", "sql@1", "--fixed")
    assert run("encode", "sql@1", "--drop", "--fixed", "--json").json["refs"] == ["sql@1"]
    assert [form["codec"] for form in run("show", "sql@1", "--json").json["forms"]] == ["rmm", "rd"]
    assert run("encode", "sql@1", "math", "--drop", "--json").json["objects"] == 2
    ran = run("encode", "sql@1", "--drop", "--json")
    assert (ran.code, ran.error["code"]) == (3, "not_found")


def test_a_form_that_stands_for_a_version_is_kept(run: Run, tmp_path: Path):
    run("encode", "sql@2", "--max-error", 0.3)
    assert run("compact", "sql@2", "--level", "bounded", "--drop-exact", "--yes").code == 0
    for words in (("--drop",), ("--max-error", 0.5)):
        ran = run("encode", "sql@2", *words, "--json")
        assert ran.error["code"] == ("in_use" if words == ("--drop",) else "conflict")
        assert "sql@2" in ran.error["message"]
    exported = run("export", "sql@2", tmp_path / "out", "--bounded", "--json").json
    assert not exported["exact"] and exported["error"] <= 0.3


@pytest.mark.parametrize(
    "words",
    [("--bits", 1, "--max-error", 0.5), ("--bits", 1, "--quality", "high"), ("--drop", "--bits", 1), ("--drop", "--effort", 0)],
    ids=lambda words: " ".join(map(str, words)),
)
def test_what_does_not_go_together(run: Run, words: tuple[object, ...]):
    ran = run("encode", "sql@1", *words, "--json")
    assert (ran.code, ran.error["code"], ran.out) == (2, "usage", "")


def test_what_is_done_is_told_also_if_a_later_one_fails(run: Run):
    run("encode", "sql@2", "--max-error", 0.3)
    run("compact", "sql@2", "--level", "bounded", "--drop-exact", "--yes")
    ran = run("encode", "sql@1", "sql@2", "--json")
    assert (ran.code, ran.error["code"]) == (4, "conflict")
    assert [made["ref"] for made in ran.json["encoded"]] == ["sql@1"]
