"""Every command prints, with --json, one document with exactly the keys and types that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from adapterbank.cli.command import Command, Group
from adapterbank.cli.main import root
from tests.cli.conforming import faults
from tests.cli.conftest import HOOK, Run

# command → what to add to it, and the exit status; {in} is the folder with adapters, {out} a place to write
CASES: dict[str, tuple[str, int]] = {
    "register": ("{in}/new --name new --alias first", 0),
    "register (bulk)": ("{in}/new {in}/sql --name-from dir", 0),
    "list": ("", 0),
    "search": ("rank=4", 0),
    "show": ("sql@1 --modules", 0),
    "history": ("sql", 0),
    "export": ("sql@1 {out}", 0),
    "alias set": ("sql@prod 1", 0),
    "alias list": ("", 0),
    "alias remove": ("sql@prod", 0),
    "tag": ("sql a=b --remove team", 0),
    "metric": ("sql acc=0.9", 0),
    "note": ("sql hello", 0),
    "model add": ("other/encoder --quantization nf4", 0),
    "model alias": ("tiny/encoder te", 0),
    "model join": ("tiny/encoder tiny/copy", 0),
    "model list": ("", 0),
    "encode": ("sql@1 math --quality small", 0),
    "encode (drop)": ("both --drop --fixed", 0),
    "basis build": ("b2 sql@1 math --max-error 0.5 --force", 0),
    "basis build (options)": ("b2 sql@1 math", 2),
    "basis list": ("", 0),
    "basis show": ("b1 --modules", 0),
    "basis add": ("b1 sql@2 --force", 0),
    "basis rebuild": ("b1 --components 1 --force", 0),
    "basis remove": ("b1 --dry-run", 0),
    "reconstruct": ("math {out}", 0),
    "compact": ("math --level bounded --drop-exact --yes", 0),
    "materialize": ("sql@1 math {out}", 0),
    "launch-flags": ("sql@1 math --for vllm", 0),
    "merge": ("ties sql@1 law=0.5 --name tied --option density=0.5", 0),
    "methods": ("", 0),
    "explain": ("both --modules", 0),
    "compare": ("average ties:density=0.5 regmean --on sql@1 math --evaluate {hook}:accuracy", 0),
    "recipe show": ("both", 0),
    "recipe export": ("both {out}", 0),
    "blend": ("sql@1=0.7 math --out {out} --rank 2", 0),
    "cluster": ("sql@1 math law --clusters 2 --merge average --name group", 0),
    "calibrate": ("gram sql@1 --with {hook}:setting", 0),
    "calibrate (list)": ("--list", 0),
    "coefficients list": ("", 0),
    "coefficients show": ("{learned}", 0),
    "coefficients compare": ("{learned} {learned}", 0),
    "coefficients export": ("{learned} --name learned", 0),
    "artefacts list": ("--of sql@1", 0),
    "artefacts remove": ("{learned} --dry-run", 0),
    "replay": ("both", 0),
    "revert": ("both {out}", 0),
    "init": ("", 0),
    "doctor": ("", 0),
    "upgrade": ("", 0),
    "verify": ("", 0),
    "gc": ("--grace 0", 0),
    "remove": ("law --dry-run", 0),
}


ELSEWHERE = ("demo", "load")  # tests/demo; tests/cli/test_servers.py, where there is a server to load into


def tree() -> dict[str, Command]:
    """Every command that prints a document, by the words that call it."""
    found: dict[str, Command] = {}

    def visit(group: Group, words: tuple[str, ...]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            child = group.get_command(context, name)
            if isinstance(child, Group):
                visit(child, (*words, name))
            elif isinstance(child, Command) and child.prints:
                found[" ".join((*words, name))] = child

    visit(root, ())
    return found


def test_every_document_of_every_command_has_a_case():
    promised = {name: len(command.prints) for name, command in tree().items() if name not in ELSEWHERE}
    tried = {name: sum(case.partition(" (")[0] == name for case in CASES) for name in promised}
    assert tried == promised


@pytest.mark.parametrize("case", CASES)
def test_json_is_one_document_as_promised(case: str, run: Run, adapters: Path, tmp_path: Path):
    name, (words, code) = case.partition(" (")[0], CASES[case]
    places: dict[str, object] = {"in": adapters, "out": tmp_path / "out", "hook": HOOK}
    if "{learned}" in words:
        places["learned"] = run("coefficients", "list", "--json").json["artefacts"][0]["ref"]
    filled = [word.format(**places) for word in words.split()]
    ran = run("--json", *name.split(), *filled)
    assert ran.code == code, ran.err
    kinds = tree()[name].prints
    verdicts: list[Any] = [faults(kind, json.loads(ran.out)) for kind in kinds]
    assert [] in verdicts, verdicts
