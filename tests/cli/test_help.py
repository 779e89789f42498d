"""Help: every command opens with examples that parse, and the literal table of short helps tells the truth."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click
import pytest

from adapterbank.catalog.expression import parse
from adapterbank.cli.command import Command, Group
from adapterbank.cli.main import COMMANDS, root
from adapterbank.cli.reference import walk
from tests.cli.conftest import invoke

CONTEXT = click.Context(root, info_name="adapterbank")
ALL = list(walk(root, CONTEXT))
EXAMPLES = [example for command in (root, *ALL) for example in command.examples]


def leaf(words: list[str], group: Group = root, parent: click.Context | None = None) -> tuple[click.Command, click.Context]:
    """Parse as click does on its way to a command, without running it."""
    context = group.make_context(group.name, words, parent=parent, resilient_parsing=False)
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    assert command is not None
    if isinstance(command, Group):
        return leaf(rest, command, context)
    return command, command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_parse(example: str, monkeypatch: pytest.MonkeyPatch):
    typed = example.partition("$(")[2].partition(")")[0] or example.partition(" > ")[0]
    words = shlex.split(typed)
    assert words.pop(0) == "adapterbank"
    command, _ = leaf(words)
    assert isinstance(command, Command)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "--where" in example or " search " in example])
def test_expressions_of_examples_are_expressions(example: str):
    words = shlex.split(example)
    parse(words[words.index("--where" if "--where" in words else "search") + 1])


@pytest.mark.parametrize("command", ALL, ids=lambda command: str(command.name))
def test_help_opens_with_examples(command: Command):
    assert 2 <= len(command.examples) <= 3
    assert command.summary.endswith(".")
    text = command.get_help(click.Context(command, info_name=command.name, parent=CONTEXT))
    assert text.index("Examples:") < text.index("Usage:") < text.index("Options:")
    for option in ("--bank", "--json", "--debug"):
        assert option in text


def test_table_of_short_helps_is_true():
    said = {name: short for section in COMMANDS.values() for name, (_, short) in section.items()}
    assert said == {name: root.get_command(CONTEXT, name).summary for name in root.list_commands(CONTEXT)}


def test_root_help_lists_every_command():
    ran = invoke("--help")
    assert ran.code == 0
    assert all(f"\n  {name} " in ran.out for name in root.list_commands(CONTEXT))


@pytest.mark.parametrize("words", [(), ("basis",), ("alias",)])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]):
    ran = invoke(*words)
    assert "Examples:" in ran.out + ran.err
    assert "Error" not in ran.err


def test_version():
    from adapterbank import __version__

    assert invoke("--version").out.strip().endswith(__version__)


@pytest.mark.parametrize("module", ["adapterbank", "adapterbank.cli.main"])
def test_the_command_line_is_there_as_a_module(module: str):
    ran = [
        subprocess.run([sys.executable, "-m", module, word], capture_output=True, text=True) for word in ("--help", "nothing")
    ]
    assert [each.returncode for each in ran] == [0, 2]
    assert "Usage: adapterbank [OPTIONS]" in ran[0].stdout and "nothing" in ran[1].stderr
