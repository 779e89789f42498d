"""What starts fast stays fast: help, list, show and register bring neither torch nor peft nor alembic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "peft", "transformers", "alembic")
CODE = """
import json, sys
from adapterbank.cli.main import root
status = 0
try:
    root.main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def modules_after(*words: object) -> tuple[int, set[str]]:
    done = subprocess.run([sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, check=True)
    status, names = json.loads(done.stdout.splitlines()[-1])
    return status, set(names)


@pytest.mark.parametrize("words", ["--help", "register --help", "basis build --help", "completion bash"])
def test_help_imports_next_to_nothing(words: str):
    status, names = modules_after(*words.split())
    assert status == 0
    assert not names & {*HEAVY, "numpy", "sqlalchemy"}


@pytest.mark.parametrize(
    "words", ["list", "show both", "register {in}/new --name new", "register --recursive {in} --name-from dir"]
)
def test_the_registry_needs_no_torch(words: str, bank: Path, adapters: Path):
    filled = [word.format(**{"in": adapters}) for word in words.split()]
    status, names = modules_after("--bank", bank, *filled)
    assert status == 0
    assert not names & set(HEAVY)
