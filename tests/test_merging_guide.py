"""docs/merging.md is executed: every console line and every Python block, in order, in a folder that has only examples/.

In this process: forty commands would spend most of their time on importing torch forty times.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapterbank.cli.main import root
from adapterbank.merge.recipe_text import from_yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "merging.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the examples; the commands run there."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bodies(language: str) -> list[str]:
    return [body for found, body in BLOCKS if found == language]


def test_every_console_block_runs_in_order(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for body in bodies("console") for line in body.splitlines()]
    assert lines.pop(0) == "$ export ADAPTERBANK=$PWD/bank-merging"
    monkeypatch.setenv("ADAPTERBANK", str(desk / "bank-merging"))
    said = []
    for line in lines:
        prompt, command, *words = shlex.split(line)
        assert (prompt, command) == ("$", "adapterbank"), line
        ran = CliRunner().invoke(root, words)
        assert ran.exit_code == 0, (line, ran.output)
        said.append(ran.stdout)
    shown = [line.split() for body in bodies("text") for line in body.splitlines() if line.startswith("regmean_loss")]
    found = [line.split() for text in said if "Held out" in text for line in text.splitlines() if line.endswith("better")]
    assert len(shown) == 2 and [words[:-3] for words in shown] * 2 == [words[:-3] for words in found]
    for ours, theirs in zip(shown * 2, found, strict=True):
        assert list(map(float, theirs[-3:-1])) == pytest.approx(list(map(float, ours[-3:-1])), abs=0.005)
    for word in ("office@1", "cancelled in the sum", "regmean_loss", "Held out", "gram", "bits", "exact", "sequence@2"):
        assert word in "".join(said), word


def test_every_python_block_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bodies("python")
    for source in bodies("python"):
        exec(compile(source, str(PAGE), "exec"), {})
        out = capsys.readouterr().out
        assert "office@2 bits" in out and "method: task_arithmetic" in out


def test_every_recipe_is_one() -> None:
    assert bodies("yaml")
    for text in bodies("yaml"):
        assert from_yaml(text).method == "ties"


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []
