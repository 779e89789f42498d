"""The README is executed: every console line and every Python block, in order, in a folder that has only examples/."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adapterbank import Bank

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLING = ("make demo", "make test", "python3 -m venv ", "pip install ")  # what CI itself does; not run from here


def blocks(*languages: str) -> list[tuple[str, str]]:
    return [(language, body) for language, body in BLOCK.findall(TEXT) if language in languages]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the examples and the command on its path."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "bin").mkdir()
    command = folder / "bin" / "adapterbank"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n')
    command.chmod(0o755)
    return folder


def run(desk: Path, command: list[str]) -> str:
    environment = {**os.environ, "PATH": f"{desk / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_console_block_runs_in_order(desk: Path) -> None:
    lines = [line for _, body in blocks("console") for line in body.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert len(commands) >= 15
    out = run(desk, ["bash", "-euo", "pipefail", "-c", "\n".join(commands)])
    for word in ("home@1", "skills@1", "office@1", "bits"):
        assert word in out


def test_every_python_block_runs(desk: Path) -> None:
    sources = [body for _, body in blocks("python")]
    assert sources
    for source in sources:
        out = run(desk, [sys.executable, "-c", source])
        assert "office@1" in out
        assert (desk / "out-python" / "home" / "adapter_model.safetensors").is_file()


def test_its_sizes_and_errors_are_those_of_the_example_adapters(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (\d) \| ([\d,]+) \| (\d+)% \| ([\d.]+) \| .*?% \| ([\d.]+) \|", TEXT, re.MULTILINE)
    assert [row[0] for row in rows] == ["3", "2", "1"]
    with Bank.open(tmp_path / "bank", create=True) as bank:
        adapters = sorted((ROOT / "examples" / "minilm" / "adapters").iterdir())
        refs = [bank.register(adapter, name=adapter.name).version.ref for adapter in adapters]
        given, svd = (bank.basis_options(refs, gauge=gauge, dtype="bfloat16") for gauge in ("given", "svd"))
    for components, size, ratio, error_given, error_svd in rows:
        first, second = (next(o for o in options if o.components == int(components)) for options in (given, svd))
        assert [first.bytes, second.bytes] == pytest.approx([int(size.replace(",", ""))] * 2, abs=64)  # headers differ by bytes
        assert round(100 * first.ratio) == int(ratio)
        assert first.error_mean == pytest.approx(float(error_given), abs=1e-3)
        assert second.error_mean == pytest.approx(float(error_svd), abs=1e-3)


def test_installing_blocks_hold_nothing_but_installing() -> None:
    for _, body in blocks("sh"):
        for line in body.splitlines():
            assert line.startswith(INSTALLING), f"put this line into a console block, where it is run: {line}"


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"make (\w+)", TEXT)) <= targets


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
