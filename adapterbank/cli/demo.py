"""The demo: the whole way on real adapters."""

from __future__ import annotations

from pathlib import Path

import click

from adapterbank.cli.command import command
from adapterbank.cli.output import console, emit
from adapterbank.cli.session import Session, pass_session

_Folder = click.Path(path_type=Path)


@command(
    "demo",
    examples=("adapterbank demo", "adapterbank demo --data my-sentences/ --json", "adapterbank demo --bank-dir ./demo-bank"),
)
@click.option("--adapters", type=_Folder, metavar="DIR", help="PEFT directories. Default: the eight of examples/minilm.")
@click.option("--data", type=_Folder, metavar="DIR", help="Labelled sentences. Default: those of examples/minilm.")
@click.option(
    "--bank-dir", type=_Folder, metavar="DIR", help="Where to make the bank. Default: a folder that is removed afterwards."
)
@pass_session
def demo_command(session: Session, adapters: Path | None, data: Path | None, bank_dir: Path | None) -> None:
    """Run the whole way on real adapters and print a table.

    Register, build a basis, reconstruct each adapter, merge; bytes, bits per parameter and errors of each, and accuracies
    where the extra "demo" is installed.
    """
    from adapterbank.demo.run import run

    result = run(bank_dir, adapters, data, console(err=session.json), session.json)
    if session.json:
        emit(session, result, lambda _: "")
