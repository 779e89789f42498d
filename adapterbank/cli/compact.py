"""Compaction: a stored form of known error takes the place of the exact bytes."""

from __future__ import annotations

import sys

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.bases import CompactionDocument
from adapterbank.cli.options import Selection, dry_run, references
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import BasisRef
from adapterbank.errors import UsageError
from adapterbank.report import bases as pictures


@command(
    "compact",
    examples=(
        "adapterbank compact sql@1 --level bounded --drop-exact --dry-run",
        "adapterbank compact sql@1 math@2 --level bounded --basis b1 --drop-exact --yes",
        "adapterbank compact --where 'created<2026-01-01' --level bounded --drop-exact --yes",
    ),
    prints=(CompactionDocument,),
)
@references()
@click.option("--level", type=click.Choice(("bounded",)), required=True, help="What stays: a form with a stated error.")
@click.option("--basis", type=BasisRef(), metavar="BASIS", help="Default: the one with the smallest stored error.")
@click.option("--drop-exact", is_flag=True, help="Say that the exact bytes go; nothing brings them back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run
@pass_session
def compact_command(
    session: Session, selection: Selection, level: str, basis: str | None, drop_exact: bool, yes: bool, dry_run: bool
) -> None:
    """Drop the exact bytes of versions that have a stored form of known error.

    The form is decoded and its error checked first. Merges of these versions are listed: their revert becomes bounded.
    """
    if not drop_exact:
        raise UsageError("compact drops the exact bytes for good: say so", hint=session.again("--drop-exact"))
    bank = session.open()
    refs = selection.of(bank)
    if not (yes or dry_run):
        _ask(session, len(refs))
    compaction = bank.compact(refs, level=level, basis=basis, drop_exact=True, dry_run=dry_run)
    emit(session, document(CompactionDocument, compaction), pictures.compaction)


def _ask(session: Session, count: int) -> None:
    """Go on only if a person says so; a program must have said --yes."""
    if session.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("compact needs --yes where nobody can be asked", hint=session.again("--yes"))
    click.confirm(f"Drop the exact bytes of {count} version(s) for good?", abort=True, err=True)
