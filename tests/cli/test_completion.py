"""Shell completion: the scripts, and words from the bank."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from adapterbank.cli.main import root
from tests.cli.conftest import invoke


def words(typed: str, incomplete: str) -> list[str]:
    complete = ShellComplete(root, {}, "adapterbank", "_ADAPTERBANK_COMPLETE")
    return [item.value for item in complete.get_completions(typed.split(), incomplete)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str):
    script = invoke("completion", shell)
    assert script.code == 0
    assert "_ADAPTERBANK_COMPLETE" in script.out and shell in script.out


def test_commands_complete():
    assert words("", "re") == ["register", "reconstruct", "recipe", "replay", "revert", "remove"]
    assert words("basis", "b") == ["build"]


@pytest.mark.parametrize(
    ("typed", "incomplete", "expected"),
    [
        ("show", "s", ["sql"]),
        ("show", "sql@", ["sql@1", "sql@2", "sql@prod"]),
        ("basis show", "b", ["b1", "b1@1"]),
        ("alias remove", "", ["sql@prod"]),
        ("merge average", "ma", ["math"]),
        ("merge", "dare", ["dare_linear", "dare_ties"]),
    ],
)
def test_words_of_the_bank_complete(bank: Path, typed: str, incomplete: str, expected: list[str]):
    assert words(f"--bank {bank} {typed}", incomplete) == expected


def test_without_a_bank_nothing_completes_and_nothing_fails(tmp_path: Path):
    assert words(f"--bank {tmp_path}/none show", "s") == []
