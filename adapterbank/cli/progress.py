"""Progress for people: a bar on stderr where that is a terminal, nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapterbank.cli.session import Session

Progress = Callable[[int, int], None]  # how much is done, how much there is


@contextmanager
def progress(session: Session, label: str) -> Iterator[Progress | None]:
    """A callback for the bank's long jobs, or None where nobody watches."""
    if session.json or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars

    from adapterbank.cli.output import console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn())
    with bars.Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
