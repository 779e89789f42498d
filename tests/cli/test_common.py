"""What holds for every command: where --bank and --json stand, what goes to which stream, colours, broken pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, invoke

MAIN = "from adapterbank.cli.main import main; main()"


def test_common_options_work_before_and_after_the_command(bank: Path):
    before = invoke("--bank", bank, "--json", "alias", "list")
    assert before.code == 0 and before.json["aliases"]
    for words in (
        ("alias", "--bank", bank, "--json", "list"),
        ("alias", "list", "--json", "--bank", bank),
        ("--json", "alias", "list", "--bank", bank),
        ("--bank", "/nowhere", "alias", "list", "--bank", bank, "--json"),
    ):
        assert invoke(*words) == before


def test_the_environment_names_the_bank_and_an_option_overrides_it(bank: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADAPTERBANK", str(bank))
    assert invoke("list", "--json").json["versions"]
    assert invoke("list", "--bank", bank.parent / "none").code == 3


def test_without_either_the_bank_is_in_the_data_folder(tmp_path: Path):
    made = invoke("init", "--json").json
    assert made["created"] and Path(made["bank"]).is_relative_to(tmp_path)
    assert invoke("list", "--json").json == {"versions": []}


def test_a_url_names_a_bank_too(bank: Path):
    assert invoke("--bank", f"sqlite:///{bank}", "list").code == 0
    assert invoke("--bank", "mysql://host/db", "list", "--json").error["code"] == "platform"


def test_no_bank_is_not_found_and_the_hint_is_init(tmp_path: Path):
    told = invoke("--bank", tmp_path / "none", "list", "--json")
    assert (told.code, told.out, told.error["code"]) == (3, "", "not_found")
    assert "init" in told.error["hint"]


def test_data_on_stdout_messages_on_stderr(run: Run, adapters: Path, tmp_path: Path):
    extra = tmp_path / "extra"
    extra.mkdir()
    for file in (adapters / "new").iterdir():
        (extra / file.name).write_bytes(file.read_bytes())
    (extra / "optimizer.pt").write_bytes(b"x")
    ran = run("register", extra, "--name", "new")
    assert ran.out.startswith("new@1  registered  sha256:")
    assert "optimizer.pt" in ran.err


def test_text_in_a_pipe_is_plain_and_aligned(run: Run):
    lines = run("list").out.splitlines()
    assert lines[0].split()[:2] == ["ref", "aliases"]
    assert all("\x1b" not in line and line == line.rstrip() for line in lines)
    column = lines[0].index("base model")
    assert {line[column:].split()[0] for line in lines[1:]} == {"tiny/encoder"}


def test_control_characters_never_reach_the_terminal(run: Run):
    assert run("note", "sql", "red \x1b[31m [bold]text").code == 0
    shown = run("show", "sql").out
    assert "\x1b" not in shown and r"red \x1b[31m [bold]text" in shown


def terminal(bank: Path, **environment: str) -> str:
    """What ``list`` prints on a terminal."""
    master, slave = os.openpty()
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    words = [sys.executable, "-c", MAIN, "--bank", str(bank), "list"]
    try:
        subprocess.run(words, stdout=slave, stderr=slave, check=True, env={**clean, "TERM": "xterm", **environment})
        return os.read(master, 65536).decode()
    finally:
        os.close(slave)
        os.close(master)


def test_colour_is_for_terminals_and_no_color_turns_it_off(bank: Path):
    assert "\x1b[36m" in terminal(bank)
    assert "\x1b[36m" not in terminal(bank, NO_COLOR="1")


def test_a_closed_pipe_is_quiet(bank: Path):
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-c", MAIN, "--bank", str(bank), "list"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""


def test_the_thin_entry_runs(bank: Path):
    entry = Path(__file__).parents[2] / "cli.py"
    words = [sys.executable, str(entry), "list", "--json", "--bank", str(bank)]
    done = subprocess.run(words, capture_output=True, check=True)
    assert len(json.loads(done.stdout)["versions"]) == 5
