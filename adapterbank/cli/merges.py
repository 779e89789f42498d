"""Merges: make, list methods, replay, revert."""

from __future__ import annotations

from typing import Any

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import ExportedDocument
from adapterbank.cli.documents.merges import MergedDocument, MethodDocument, MethodsDocument, ReplayDocument, RevertedDocument
from adapterbank.cli.options import DTYPES, Selection, force, reference, references
from adapterbank.cli.output import emit, warn
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import MethodName, Pair
from adapterbank.errors import IntegrityError
from adapterbank.report import merges as pictures

_METHOD_KEYS = ("name", "kind", "summary", "formula", "source", "laws")


@command(
    "merge",
    examples=(
        "adapterbank merge average sql@1 math@2 --name sql-math",
        "adapterbank merge ties sql@1=1 math@2=0.5 --name sql-math --option density=0.2",
        "adapterbank merge dare_linear @refs.txt --name all --seed 7 --rank 32",
    ),
    prints=(MergedDocument,),
)
@click.argument("method", metavar="METHOD", type=MethodName())
@references("REF[=WEIGHT]...")
@click.option("--name", required=True, metavar="NAME", help="The name that the result is a version of.")
@click.option("--rank", type=click.IntRange(min=1), metavar="R", help="Output rank. Default: the largest input rank.")
@click.option(
    "--option", "options", multiple=True, type=Pair(), metavar="K=V", help="An option of the method; may be repeated."
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="For methods that draw.")
@click.option("--alias", metavar="A", help="Point this alias at the result.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="K=V", help="A tag; may be repeated.")
@click.option("--note", metavar="TEXT", help="A note.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="As stored.")
@force("Register even if the same content is there in other bytes.")
@pass_session
def merge_command(session: Session, method: str, selection: Selection, **given: Any) -> None:
    """Merge adapters into a new version, with its recipe.

    The residual is what the cut to the output rank lost, relative in ΔW. "adapterbank methods" lists METHODs.
    """
    bank = session.open()
    given |= {"options": dict(given["options"]), "tags": dict(given["tags"])}
    with progress(session, "merge") as step:
        merged = bank.merge(method, selection.weights(bank), progress=step, **given)
    warn(merged.warnings)
    emit(session, document(MergedDocument, merged, ref=merged.version.ref), pictures.merged)


@command("methods", examples=("adapterbank methods", "adapterbank methods --json"), prints=(MethodsDocument,))
@pass_session
def methods_command(session: Session) -> None:
    """List the merge methods and their options."""
    from adapterbank.merge import all_methods

    methods = [_method(method) for method in all_methods().values()]
    emit(session, document(MethodsDocument, {"methods": methods}), pictures.methods)


def _method(method: Any) -> MethodDocument:
    options = [
        {"name": option.name, "default": option.default, "expected": option.expected, "help": option.hint.help}
        for option in method.options
    ]
    return document(MethodDocument, {**{key: getattr(method, key) for key in _METHOD_KEYS}, "options": options})


@command("replay", examples=("adapterbank replay sql-math@1", "adapterbank replay sql-math --json"), prints=(ReplayDocument,))
@reference
@pass_session
def replay_command(session: Session, ref: str) -> None:
    """Merge again from the recipe and compare.

    The outcome is "bits" (the same digest), "within 3e-7" or "differs" (exit code 5), with what changed in the environment.
    """
    replay = session.open(readonly=True).replay(ref)
    emit(session, document(ReplayDocument, replay), pictures.replay)
    if replay.outcome == "differs":
        raise IntegrityError(f"{replay.ref} does not come out of its recipe again", hint=f"adapterbank show {replay.ref}")


@command(
    "revert",
    examples=("adapterbank revert sql-math@1 parts/", "adapterbank revert sql-math parts/ --json"),
    prints=(RevertedDocument,),
)
@reference
@click.argument("directory", metavar="DIR", type=click.Path())
@pass_session
def revert_command(session: Session, ref: str, directory: str) -> None:
    """Hand back the constituents of a merge.

    Each is written to DIR/NAME@N: bit for bit where its exact bytes are kept, else as an approximation marked as one.
    """
    reverted = session.open().revert(ref, directory)
    parts = [document(ExportedDocument, part, ref=part.version.ref) for part in reverted.constituents]
    emit(session, document(RevertedDocument, reverted, constituents=parts), pictures.reverted)
