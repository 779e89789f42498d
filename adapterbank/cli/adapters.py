"""Versions: list, search, show, history, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import ExportedDocument, HistoryDocument, ShowDocument, VersionsDocument
from adapterbank.cli.documents.recipes import opened
from adapterbank.cli.forms import detailed
from adapterbank.cli.options import listing, reference
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import VersionRef
from adapterbank.report import adapters as pictures

if TYPE_CHECKING:
    from adapterbank.bank import Bank


@command(
    "list",
    examples=(
        "adapterbank list",
        "adapterbank list sql --sort -created --limit 5",
        "adapterbank list --where 'acc>0.8' --json",
    ),
    prints=(VersionsDocument,),
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=VersionRef())
@click.option("--where", metavar="EXPR", help="Only the versions that this selects, such as 'rank=16 and base~llama'.")
@listing
@pass_session
def list_command(session: Session, names: tuple[str, ...], where: str | None, limit: int | None, sort: str | None) -> None:
    """List versions.

    All of them, or those of the names given.
    """
    found = session.open(readonly=True).versions(names=names or None, where=where, limit=limit, sort=sort)
    emit(session, document(VersionsDocument, {"versions": found}), pictures.versions)


@command(
    "search",
    examples=(
        "adapterbank search 'rank=16 and base~llama and acc>0.8'",
        "adapterbank search 'method=ties or created>=2026-11' --sort -created --limit 10",
    ),
    prints=(VersionsDocument,),
)
@click.argument("expression", metavar="EXPR")
@listing
@pass_session
def search_command(session: Session, expression: str, limit: int | None, sort: str | None) -> None:
    """List the versions that an expression selects.

    Comparisons with = != < <= > >= and ~ (contains), joined by and, or, not and parentheses. Fields: name, version, alias,
    base, rank, alpha, rslora, kind, dtype, level, method, parameters, bytes (10MB, 8MiB) and created (2026-11-23). Any other
    word is a tag or a metric of the bank; tag.K and metric.K say which.
    """
    found = session.open(readonly=True).versions(where=expression, limit=limit, sort=sort)
    emit(session, document(VersionsDocument, {"versions": found}), pictures.versions)


@command(
    "show",
    examples=(
        "adapterbank show sql",
        "adapterbank show sql@prod --modules",
        "adapterbank show sha256:0123abcd --json",
    ),
    prints=(ShowDocument,),
)
@reference
@click.option("--modules", is_flag=True, help="Also how each stored form keeps every module, and its error.")
@pass_session
def show_command(session: Session, ref: str, modules: bool) -> None:
    """Show everything about one version.

    Its facts and labels, the recipe if it is a merge, its stored forms with their errors, and what needs it.
    """
    emit(session, _shown(session.open(readonly=True), ref, modules), pictures.version)


def _shown(bank: Bank, ref: str, modules: bool) -> ShowDocument:
    version = bank.find(ref)
    return document(
        ShowDocument,
        version,
        shapes=version.modules,
        recipe=opened(bank.recipe(version.ref)),
        forms=detailed(bank, bank.forms(version.ref), modules),
        dependents=bank.dependents(version.ref),
    )


@command("history", examples=("adapterbank history sql", "adapterbank history sql --json"), prints=(HistoryDocument,))
@click.argument("name", metavar="NAME", type=VersionRef())
@pass_session
def history_command(session: Session, name: str) -> None:
    """Show all versions of a name and every move of its aliases."""
    emit(session, document(HistoryDocument, session.open(readonly=True).history(name)), pictures.history)


@command(
    "export",
    examples=("adapterbank export sql@1 out/", "adapterbank export sql@prod out/ --bounded"),
    prints=(ExportedDocument,),
)
@reference
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--bounded", is_flag=True, help="Where the exact bytes were dropped, write the approximation, marked as one.")
@pass_session
def export_command(session: Session, ref: str, directory: str, bounded: bool) -> None:
    """Write a version as a PEFT directory, bit for bit as it was registered.

    A version whose exact bytes were dropped fails with exit code 10, unless --bounded.
    """
    exported = session.open().export(ref, directory, bounded=bounded)
    emit(session, document(ExportedDocument, exported, ref=exported.version.ref), pictures.exported)
