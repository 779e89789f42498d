"""One bank for all commands, made once and copied for each test; and the command line run in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapterbank.cli.main import root
from tests import hook
from tests.adapters import write_adapter

NAMES = ("sql", "math", "law")
HOOK = Path(hook.__file__)


@dataclass(frozen=True)
class Ran:
    """What one invocation left: exit status, both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.err.splitlines()[-1])["error"]


Run = Callable[..., Ran]


def invoke(*words: object, input: str | None = None) -> Ran:
    result = CliRunner().invoke(root, [str(word) for word in words], input=input)
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def no_bank_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADAPTERBANK", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``in/NAME``: three adapters and a second sql; ``bank``: all of them, a basis over three, a merge, an alias, a form."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed, name in enumerate((*NAMES, "sql2", "new")):
        write_adapter(folder / "in" / name, seed=seed)
    bank = ("--bank", folder / "bank")
    steps: list[tuple[object, ...]] = [("init",)]
    steps += [("register", folder / "in" / name, "--name", name, "--tag", "team=data", "--metric", "acc=0.5") for name in NAMES]
    steps += [
        ("register", folder / "in" / "sql2", "--name", "sql", "--alias", "prod"),
        ("model", "add", "tiny/copy"),
        ("basis", "build", "b1", "sql@1", "math", "law", "--components", 2, "--force"),
        ("merge", "average", "sql@1=2", "math", "--name", "both", "--rank", 8),
        ("encode", "both", "--fixed"),
        ("calibrate", "adamerging", "sql@1", "math", "--with", f"{HOOK}:setting", "--option", "steps=1"),
    ]
    for step in steps:
        ran = invoke(*bank, *step)
        assert ran.code == 0, (step, ran.err)
    return folder


@pytest.fixture
def adapters(prepared: Path) -> Path:
    return prepared / "in"


@pytest.fixture
def bank(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared / "bank", tmp_path / "bank"))


@pytest.fixture
def run(bank: Path) -> Iterator[Run]:
    """Run a command on a copy of the prepared bank."""
    yield lambda *words, **more: invoke("--bank", bank, *words, **more)
