"""The shape of every command: common options before and after its name, help that opens with examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from adapterbank.cli.session import Session


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name:
        setattr(ctx.ensure_object(Session), parameter.name, value)


def _common_options() -> list[click.Parameter]:
    """``--bank``, ``--json`` and ``--debug``: read into the session, never an argument of the command."""
    where = "The bank: a folder or an SQLite URL. Default: $ADAPTERBANK, else the platform's data folder."
    return [
        click.Option(["--bank"], metavar="PATH_OR_URL", help=where, expose_value=False, callback=_remember),
        click.Option(["--json"], is_flag=True, help="Print one JSON document.", expose_value=False, callback=_remember),
        click.Option(["--debug"], is_flag=True, help="Print tracebacks.", expose_value=False, callback=_remember),
    ]


class _Documented(click.Command):
    """Adds the common options; its help is summary, examples, usage, details, options."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), prints: Sequence[type] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.prints = tuple(prints)  # the TypedDicts of documents.py that --json can show
        self.params.extend(_common_options())

    @property
    def summary(self) -> str:
        """The first paragraph of the help, on one line."""
        return " ".join(inspect.cleandoc(self.help or "").partition("\n\n")[0].split())

    @property
    def details(self) -> str:
        """What follows the first paragraph."""
        return inspect.cleandoc(self.help or "").partition("\n\n")[2]

    def get_short_help_str(self, limit: int = 45) -> str:
        return self.summary

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_text(self.summary)
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        if self.details:
            formatter.write_paragraph()
            formatter.write_text(self.details)
        self.format_options(ctx, formatter)


class Command(_Documented):
    """One verb. An option in ``spread`` takes every word up to the next option: ``--on a b`` is ``--on a --on b``."""

    def __init__(self, *args: Any, spread: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spread = frozenset(spread)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._spelled_out(args)))

    def _spelled_out(self, args: Sequence[str]) -> Iterator[str]:
        option, first = None, False
        for word in args:
            if word.startswith("-"):
                option, first = (word, True) if word in self.spread else (None, False)
            elif option is not None and not first:
                yield option
            first = first and word == option
            yield word


class Group(_Documented, click.Group):
    """A noun with verbs below it."""

    command_class = Command


def command(
    name: str, *, examples: Sequence[str], prints: Sequence[type] = (), spread: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Command]:
    """A :class:`Command` from a function; ``prints`` are the documents it can show with ``--json``."""
    return click.command(name, cls=Command, examples=examples, prints=prints, spread=spread)


def group(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Group]:
    """A :class:`Group` from a function."""
    return click.group(name, cls=Group, examples=examples)
