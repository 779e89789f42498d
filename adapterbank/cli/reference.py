"""``docs/cli.md``, written from the command tree: ``python -m adapterbank.cli.reference > docs/cli.md``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import click

from adapterbank.cli.command import Command, Group
from adapterbank.cli.failures import INTERRUPTED
from adapterbank.cli.main import COMMANDS, root
from adapterbank.errors import AdapterBankError

_HEAD = """\
# Command line

Written by `python -m adapterbank.cli.reference > docs/cli.md`; do not edit.

`--bank PATH_OR_URL` (else the environment variable `ADAPTERBANK`, else the platform's data folder), `--json` and `--debug`
work before and after the command. Wherever `REF...` stands, `@FILE` takes references from a file (one a line, `#` comments,
`@-` is standard input) and `--where EXPR` takes those that an expression selects. Data goes to standard output; messages,
progress and errors go to standard error. Tables are plain aligned text where standard output is no terminal; `NO_COLOR` is
respected.
"""


def markdown() -> str:
    """The whole page."""
    context = click.Context(root, info_name="adapterbank")
    parts = [_HEAD, *_exit_codes()]
    for section, names in COMMANDS.items():
        parts.append(f"## {section}\n")
        for name in names:
            found = root.get_command(context, name)
            assert isinstance(found, Command | Group)
            parts += _command(found, click.Context(found, info_name=name, parent=context))
    parts += ["## Documents\n", "What `--json` prints. A number that is not finite is `null`.\n", *_documents(context)]
    return "\n".join(parts).rstrip() + "\n"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    yield 'With `--json` an error is one document on standard error, `{"error": {"code", "message", "hint", "details"}}`.\n'
    yield "| exit | code | when |\n|---|---|---|\n| 0 |  | Done. |\n| 1 | `unexpected`, `error` | Anything else. |"
    for kind in AdapterBankError.__subclasses__():
        yield f"| {kind.exit_code} | `{kind.code}` | {_said(kind).splitlines()[0]} |"
    yield f"| {INTERRUPTED} | `interrupted` | The user stopped it. |\n"


def _command(found: Command | Group, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n"
    yield f"{found.summary}\n"
    yield "```console\n" + "\n".join(f"$ {example}" for example in found.examples) + "\n```\n"
    yield f"`{found.get_usage(context).removeprefix('Usage: ')}`\n"
    if found.details:
        yield f"{' '.join(found.details.split())}\n"
    yield from _options(found, context)
    if found.prints:
        yield f"`--json` prints {' or '.join(f'[{_title(kind)}](#{_anchor(kind)})' for kind in found.prints)}.\n"
    if isinstance(found, Group):
        for name, child in found.commands.items():
            assert isinstance(child, Command)
            yield from _command(child, click.Context(child, info_name=name, parent=context))


def _options(found: click.Command, context: click.Context) -> Iterator[str]:
    own = [p for p in found.params if isinstance(p, click.Option) and p.name not in ("bank", "json", "debug")]
    records = [record for option in own if (record := option.get_help_record(context))]
    if records:
        yield "\n".join(f"- `{names}` {text}" for names, text in records) + "\n"


def _documents(context: click.Context) -> Iterator[str]:
    for kind in sorted(_kinds(context), key=_title):
        yield f"### {_title(kind)}\n"
        yield f"{_said(kind)}\n"
        yield "| key | value |\n|---|---|"
        for key, hint in get_type_hints(kind).items():
            yield f"| `{key}` | {_type(hint)} |"
        yield ""


def _kinds(context: click.Context) -> set[type]:
    """Every document that a command prints, and every document inside one."""
    found: set[type] = set()
    todo: list[Any] = [kind for command in walk(root, context) for kind in command.prints]
    while todo:
        hint = todo.pop()
        if is_typeddict(hint) and hint not in found:
            found.add(hint)
            todo += get_type_hints(hint).values()
        todo += get_args(hint)
    return found


def walk(at: Group, context: click.Context) -> Iterator[Command | Group]:
    """Every command below ``at``."""
    for name in at.list_commands(context):
        found = at.get_command(context, name)
        assert isinstance(found, Command | Group)
        yield found
        if isinstance(found, Group):
            yield from walk(found, context)


def _said(kind: type) -> str:
    """A docstring with the code marks of Markdown."""
    return (inspect.getdoc(kind) or "").replace("``", "`")


def _title(kind: type) -> str:
    return kind.__name__.removesuffix("Document")


def _anchor(kind: type) -> str:
    return _title(kind).lower()


def _type(hint: Any) -> str:
    """An annotation as JSON calls it."""
    if is_typeddict(hint):
        return f"[{_title(hint)}](#{_anchor(hint)})"
    if get_origin(hint) is types.UnionType:
        return " or ".join(_type(part) for part in get_args(hint))
    if get_origin(hint) is list:
        return f"array of {_type(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"object of {_type(get_args(hint)[1])}"
    return {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}.get(hint, "any value")


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
