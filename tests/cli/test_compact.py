"""Lossless levels on the command line: no questions asked, nothing lost, and what stands in the way is said."""

from __future__ import annotations

from pathlib import Path

from tests.adapters import write_adapter
from tests.cli.conftest import Run

EXACT = ("compact", "math", "--level", "exact")


def assert_exported(run: Run, ref: str, source: Path, out: Path) -> None:
    assert run("export", ref, out, "--json").json["exact"]
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in source.iterdir())


def test_exact_needs_no_consent_and_gives_the_bytes_back(run: Run, adapters: Path, tmp_path: Path):
    tried = run(*EXACT, "--dry-run", "--json").json
    assert tried["dry_run"] and run("show", "math", "--json").json["level"] == "original"
    done = run(*EXACT, "--json").json
    assert (done["refs"], done["level"], done["kept"], done["forms"]) == (["math@1"], "exact", [], {})
    assert done["bytes_freed"] == tried["bytes_freed"] > 0
    assert done["coded"]["math@1"] == tried["coded"]["math@1"]
    assert run("show", "math", "--json").json["level"] == "exact"
    assert [version["ref"] for version in run("list", "--where", "level=exact", "--json").json["versions"]] == ["math@1"]
    assert [version["ref"] for version in run("search", "level=exact", "--json").json["versions"]] == ["math@1"]
    assert run("verify", "--json").json["problems"] == run("verify", "math", "--json").json["problems"] == []
    assert_exported(run, "math", adapters / "math", tmp_path / "coded")
    assert run("register", adapters / "math", "--name", "math", "--json").json["status"] == "unchanged"
    back = run("compact", "math", "--level", "original", "--json").json
    assert (back["refs"], back["bytes_freed"]) == (["math@1"], -done["bytes_freed"])
    assert_exported(run, "math", adapters / "math", tmp_path / "plain")


def test_people_read_what_was_done(run: Run):
    assert "math@1" in run(*EXACT, "--dry-run").out
    said = run(*EXACT).out
    assert "math@1" in said and "1 version(s) are at level exact" in said and "less" in said
    assert "0 version(s) are at level exact" in run(*EXACT).out
    assert "1 version(s) are at level original" in run("compact", "math", "--level", "original").out


def test_what_stays_as_it_is_is_said(run: Run, tmp_path: Path):
    small = write_adapter(tmp_path / "small", {"layer": (1, 1)}, rank=1)
    assert run("register", small, "--name", "small").code == 0
    said = run("compact", "small", "--level", "exact")
    assert said.code == 0 and "small@1 stays as it is" in said.out
    assert run("compact", "small", "--level", "exact", "--json").json["kept"] == ["small@1"]


def test_options_of_another_level_are_refused(run: Run):
    for more in (("--drop-exact",), ("--basis", "b1")):
        refused = run(*EXACT, *more, "--json")
        assert (refused.code, refused.error["code"]) == (2, "usage")
    assert run("show", "math", "--json").json["level"] == "original"


def test_a_reference_is_held(run: Run, adapters: Path, tmp_path: Path):
    """The same factors in other words: their configuration differs, their weights by one bit."""
    near = write_adapter(tmp_path / "near", seed=1)
    weights = near / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x3d")
    assert run("register", near, "--name", "near", "--parent", "math@1").code == 0
    done = run("compact", "near", "--level", "exact", "--json").json
    assert done["coded"]["near@1"]["reference"] == "math@1"
    held = run("remove", "math", "--json")
    assert (held.code, held.error["code"]) == (11, "in_use")
    assert [edge["dependent"] for edge in run("show", "math", "--json").json["dependents"]].count("version near@1") == 1
    dropped = run("compact", "math", "--level", "bounded", "--drop-exact", "--yes", "--json")
    assert (dropped.code, dropped.error["code"]) == (11, "in_use")
    assert dropped.error["hint"] == "adapterbank compact near@1 --level original"
    assert run(*dropped.error["hint"].split()[1:]).code == 0
    assert run("compact", "math", "--level", "bounded", "--drop-exact", "--yes").code == 0
    refused = run("compact", "math", "--level", "exact", "--json")
    assert (refused.code, refused.error["code"]) == (10, "bounded_only")
