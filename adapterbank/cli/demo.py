"""The demo: the whole way on real adapters."""

from __future__ import annotations

from pathlib import Path

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.output import console, emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.demo.result import Result
from adapterbank.demo.table import picture

_Folder = click.Path(path_type=Path)


@command(
    "demo",
    examples=(
        "adapterbank demo",
        "adapterbank demo --data my-sentences/ --json",
        "adapterbank demo --bank-dir ./demo-bank",
    ),
    prints=(Result,),
)
@click.option("--adapters", type=_Folder, metavar="DIR", help="A folder laid out as examples/minilm is, which is the default.")
@click.option("--data", type=_Folder, metavar="DIR", help="Other labelled sentences, a file for each skill: SKILL.test.jsonl.")
@click.option("--bank-dir", type=_Folder, metavar="DIR", help="Keep the bank here (or --bank). Default: a temporary folder.")
@pass_session
def demo_command(session: Session, adapters: Path | None, data: Path | None, bank_dir: Path | None) -> None:
    """Run the whole way on real adapters and print a table.

    Register, build a basis, reconstruct each adapter, merge; bytes, bits per parameter and errors of each, and accuracies
    where the extra "demo" is installed.
    """
    from adapterbank.demo.run import run

    watched = console(err=True)
    watched.quiet = session.json
    result = run(bank=bank_dir or session.bank, adapters=adapters, data=data, console=watched)
    emit(session, document(Result, result), lambda _: picture(result))
