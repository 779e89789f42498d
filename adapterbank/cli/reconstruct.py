"""Reconstruction: a PEFT directory from a stored form alone."""

from __future__ import annotations

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.bases import WrittenDocument
from adapterbank.cli.options import DTYPES, reference
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import BasisRef
from adapterbank.report import bases as pictures


@command(
    "reconstruct",
    examples=(
        "adapterbank reconstruct sql@1 out/",
        "adapterbank reconstruct sql@1 out/ --codec fixed",
        "adapterbank reconstruct sql@1 out/ --basis b1 --device cuda --dtype bfloat16",
    ),
    prints=(WrittenDocument,),
)
@reference
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--basis", type=BasisRef(), metavar="BASIS", help="Default: the form with the smallest stored error.")
@click.option("--codec", type=click.Choice(("rd", "fixed", "rmm")), help="Only among the forms of this codec.")
@click.option("--device", default="cpu", show_default=True, metavar="D", help="Where to compute: cpu, cuda, cuda:1.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="As written.")
@pass_session
def reconstruct_command(
    session: Session, ref: str, directory: str, basis: str | None, codec: str | None, device: str, dtype: str
) -> None:
    """Write a version from its stored form alone."""
    written = session.open().write_reconstruction(ref, directory, basis=basis, codec=codec, device=device, dtype=dtype)
    emit(session, document(WrittenDocument, written), pictures.written)
