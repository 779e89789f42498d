"""Compaction: the same bytes losslessly coded, or a stored form of known error in their place."""

from __future__ import annotations

import sys

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.bases import CompactionDocument
from adapterbank.cli.options import Selection, dry_run, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import BasisRef
from adapterbank.errors import UsageError
from adapterbank.report import bases as pictures

LEVELS = ("original", "exact", "bounded")


@command(
    "compact",
    examples=(
        "adapterbank compact --where 'created<2026-01-01' --level exact",
        "adapterbank compact sql@1 math@2 --level bounded --basis b1 --drop-exact --yes",
        "adapterbank compact sql@1 --level original",
    ),
    prints=(CompactionDocument,),
)
@references()
@click.option("--level", type=click.Choice(LEVELS), required=True, help="How the versions are kept from now on.")
@click.option("--basis", type=BasisRef(), metavar="BASIS", help="For bounded; default: the form with the smallest error.")
@click.option("--drop-exact", is_flag=True, help="For bounded: say that the exact bytes go; nothing brings them back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run
@pass_session
def compact_command(
    session: Session, selection: Selection, level: str, basis: str | None, drop_exact: bool, yes: bool, dry_run: bool
) -> None:
    """Keep versions at another level, in fewer bytes.

    At level exact they are coded without loss: every command gives the same bytes as before. It is decoded and compared with
    the registered SHA-256 first; a version may be coded as differences to its parent, which then has to stay. At level
    original they are kept as they came. At level bounded the exact bytes are dropped for good, and a stored form of known
    error takes their place: it is decoded and its error checked first. Merges of these versions are listed: their revert
    becomes bounded.
    """
    if level == "bounded" and not drop_exact:
        raise UsageError("compact drops the exact bytes for good: say so", hint=session.again("--drop-exact"))
    bank = session.open()
    refs = selection.of(bank)
    if level == "bounded" and not (yes or dry_run):
        _ask(session, len(refs))
    with progress(session, "coding") as watch:
        compaction = bank.compact(refs, level=level, basis=basis, drop_exact=drop_exact, dry_run=dry_run, progress=watch)
    emit(session, document(CompactionDocument, compaction), pictures.compaction)


def _ask(session: Session, count: int) -> None:
    """Go on only if a person says so; a program must have said --yes."""
    if session.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("compact needs --yes where nobody can be asked", hint=session.again("--yes"))
    click.confirm(f"Drop the exact bytes of {count} version(s) for good?", abort=True, err=True)
