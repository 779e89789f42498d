"""Coding: versions on their own, to a size, an error or a quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.bases import EncodedDocument, EncodingsDocument
from adapterbank.cli.documents.upkeep import RemovalDocument
from adapterbank.cli.options import Selection, effort, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.errors import UsageError
from adapterbank.report import forms as pictures
from adapterbank.report import upkeep as upkeep_pictures

if TYPE_CHECKING:
    from adapterbank.ways.results import Encoded

QUALITIES = ("high", "balanced", "small")
CODED, FIXED = "rd", "fixed"


@command(
    "encode",
    examples=(
        "adapterbank encode sql@1 math@2 --quality small",
        "adapterbank encode --where 'rank=16' --bits 0.25 --effort 2",
        "adapterbank encode sql@1 --fixed --drop",
    ),
    prints=(EncodingsDocument, RemovalDocument),
)
@references()
@click.option(
    "--bits", type=click.FloatRange(0, min_open=True), metavar="B", help="At most so many bits per LoRA parameter, all counted."
)
@click.option(
    "--max-error", type=click.FloatRange(0, min_open=True), metavar="E", help="As small as an error of at most E allows."
)
@click.option(
    "--quality",
    type=click.Choice(QUALITIES),
    help="An error of at most 0.1, 0.35 or 0.6. Default if nothing is said: balanced.",
)
@effort
@click.option("--fixed", is_flag=True, help="Of fixed width, for use from memory: larger, with random access.")
@click.option("--drop", is_flag=True, help="Remove the forms made so, all or with --fixed those of fixed width.")
@pass_session
def encode_command(
    session: Session,
    selection: Selection,
    bits: float | None,
    max_error: float | None,
    quality: str | None,
    effort: int | None,
    fixed: bool,
    drop: bool,
) -> None:
    """Code versions on their own: a small form of each, with a stated error.

    The form stands beside the exact bytes, one per version (and one of fixed width); coding again replaces it. Errors are
    relative in ΔW and measured from what was stored.
    """
    bank = session.open()
    refs = selection.of(bank)
    wanted = {"bits": bits, "max_error": max_error, "quality": quality, "effort": effort}
    given = [f"--{name.replace('_', '-')}" for name, value in wanted.items() if value is not None]
    if drop:
        if given:
            raise UsageError(f"--drop removes forms and makes none: it does not go with {', '.join(given)}")
        removed = bank.drop_forms(refs, codec=FIXED if fixed else None)
        emit(session, document(RemovalDocument, removed), upkeep_pictures.removal)
        return
    done: list[EncodedDocument] = []
    try:
        for number, ref in enumerate(refs, 1):
            with progress(session, f"encode {ref} ({number} of {len(refs)})") as step:
                made = bank.encode(
                    ref, bits=bits, max_error=max_error, quality=quality, codec=FIXED if fixed else CODED,
                    effort=1 if effort is None else effort, progress=step,
                )  # fmt: skip
            done.append(_encoded(made))
    finally:  # what is done stays done, also where a later one is refused
        if done:
            emit(session, document(EncodingsDocument, {"encoded": done}), pictures.encodings)


def _encoded(made: Encoded) -> EncodedDocument:
    form = made.form
    told = {"ref": form.version, "codec": form.codec, "bytes": form.bytes, "error": form.error, "error_kind": form.error_kind}
    return document(EncodedDocument, made, **told)
