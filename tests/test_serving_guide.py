"""docs/serving.md is executed: every console line and every Python block, in order, in a folder that has only examples/.

The blocks that start a vLLM are run by ``tests/vllm_server``, in an environment of its own.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapterbank.cli.main import root

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "serving.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """One command of the page, in this process; what it printed."""
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
        return ""
    assert words[0] == "adapterbank", words
    ran = CliRunner().invoke(root, words[1:])
    assert ran.exit_code == 0, (words, ran.output)
    return ran.stdout


def test_the_page_runs_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    said = ""
    for language, body in BLOCKS:
        if language == "python":
            exec(compile(body, str(PAGE), "exec"), {})
            said += capsys.readouterr().out
        for line in body.splitlines() if language == "console" else ():
            prompt, *words = shlex.split(line.replace("$PWD", str(tmp_path)))
            assert prompt == "$", line
            if words[0] == "export":
                name, value = words[1].split("=")
                monkeypatch.setitem(os.environ, name, value)
            else:
                said += run(words, monkeypatch)
    for word in (
        "they differ: True", "error at most 0.1: True", "a row for each adapter: (2, 384)", "exact: 0.0", "--max-lora-rank 8",
        "VLLM_PLUGINS=adapterbank", "unchanged", "--lora-target-modules", "lorax-launcher", "adapterbank_serving_hits_total",
    ):  # fmt: skip
        assert word in said, (word, said)
    assert re.search(r"a switch takes \d+\.\d\d ms, with PEFT's load_adapter \d+ ms: \d+ times as long", said), said
    assert (tmp_path / "out" / "math@1" / "adapter_model.safetensors").is_file()
    (printed,) = (line for line in said.splitlines() if " vllm serve " in line)
    shown = next(body for language, body in BLOCKS if language == "sh" and "vllm serve" in body).replace("\\\n", "")
    assert printed.split() == shown.replace("$PWD", str(tmp_path)).split()
    assert (tmp_path / "tiny" / "model" / "config.json").is_file(), "the model of that line is there"


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
