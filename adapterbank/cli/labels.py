"""Labels of a version: tags, metrics, note."""

from __future__ import annotations

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import VersionDocument
from adapterbank.cli.options import reference
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import NumberPair, Pair
from adapterbank.report import adapters as pictures

_Pairs = tuple[tuple[str, str], ...]
_Numbers = tuple[tuple[str, float], ...]


@command(
    "tag",
    examples=("adapterbank tag sql@1 team=data stage=eval", "adapterbank tag sql@1 --remove stage"),
    prints=(VersionDocument,),
)
@reference
@click.argument("pairs", metavar="[K=V]...", nargs=-1, type=Pair())
@click.option("--remove", "untag", multiple=True, metavar="K", help="Remove this tag; may be repeated.")
@pass_session
def tag_command(session: Session, ref: str, pairs: _Pairs, untag: tuple[str, ...]) -> None:
    """Set or remove tags of a version."""
    if not (pairs or untag):
        raise click.UsageError("nothing to do: give K=V or --remove K")
    emit(session, document(VersionDocument, session.open().label(ref, tags=dict(pairs), untag=untag)), pictures.label)


@command(
    "metric",
    examples=("adapterbank metric sql@1 acc=0.91", "adapterbank metric sql acc=0.91 f1=0.88"),
    prints=(VersionDocument,),
)
@reference
@click.argument("pairs", metavar="K=NUMBER...", nargs=-1, required=True, type=NumberPair())
@pass_session
def metric_command(session: Session, ref: str, pairs: _Numbers) -> None:
    """Set metrics of a version."""
    emit(session, document(VersionDocument, session.open().label(ref, metrics=dict(pairs))), pictures.label)


@command(
    "note",
    examples=("adapterbank note sql@1 'trained on the cleaned set'", "adapterbank note sql@1 ''"),
    prints=(VersionDocument,),
)
@reference
@click.argument("text", metavar="TEXT")
@pass_session
def note_command(session: Session, ref: str, text: str) -> None:
    """Write the note of a version."""
    emit(session, document(VersionDocument, session.open().label(ref, note=text)), pictures.label)
