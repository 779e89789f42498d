"""Progress for people: a spinner with a count while a stage runs, one line with its time when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Say = Callable[[str], None]


@contextmanager
def stage(console: Console, title: str) -> Iterator[Say]:
    """Show ``title`` while the block runs; the function it yields adds a detail such as ``3 of 8``."""
    start = time.monotonic()
    details = [""]
    with console.status(title) as status:

        def say(detail: str) -> None:
            details[0] = detail
            status.update(f"{title}: {detail}")

        yield say
    ending = f": {details[0]}" if details[0] else ""
    console.print(f"{title}{ending} ({time.monotonic() - start:.1f} s)", highlight=False, markup=False)
