"""One document, two faces: JSON for programs, a picture for people. Data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from adapterbank.cli.session import Session

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from adapterbank.errors import Problem

_UNFOLDED = 4096  # columns where stdout is no terminal: aligned text that nothing wraps


def emit(session: Session, document: Mapping[str, Any], picture: Callable[[Mapping[str, Any]], RenderableType]) -> None:
    """Print the document: as JSON with ``--json``, else the picture of it."""
    if session.json:
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        click.echo(_rendered(picture(document)), nl=False)


def tell(message: str) -> None:
    """A line for people, on stderr."""
    click.echo(message, err=True)


def warn(problems: Iterable[Problem]) -> None:
    """One line on stderr for each finding."""
    for problem in problems:
        where = f" ({problem.where})" if problem.where else ""
        tell(f"{problem.severity}: [{problem.code}] {problem.message}{where}")


def console(*, err: bool = False) -> Console:
    """A rich console on the stream as it is now; rich itself respects NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _UNFOLDED, highlight=False, emoji=False, markup=False)


def _rendered(picture: RenderableType) -> str:
    target = console()
    with target.capture() as captured:
        target.print(picture)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
