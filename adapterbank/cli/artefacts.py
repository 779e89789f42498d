"""Artefacts: what calibration made, listed and removed; coefficients among them, shown, compared and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterbank.cli.command import command, group
from adapterbank.cli.documents import document
from adapterbank.cli.documents.calibrations import ArtefactsDocument, CoefficientsComparedDocument, CoefficientsDocument
from adapterbank.cli.documents.merges import MergedDocument
from adapterbank.cli.documents.upkeep import RemovalDocument
from adapterbank.cli.options import dry_run, output_rank
from adapterbank.cli.output import emit, warn
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import VersionRef
from adapterbank.errors import UsageError
from adapterbank.report import calibrations as pictures
from adapterbank.report import merges as merge_pictures
from adapterbank.report import upkeep as upkeep_pictures

if TYPE_CHECKING:
    from adapterbank.bank import Bank

FAMILIES = ("statistics", "coefficients")
_artefact = click.argument("artefact", metavar="ARTEFACT")
_artefacts = click.argument("artefacts", metavar="ARTEFACT...", nargs=-1, required=True)


@group("artefacts", examples=("adapterbank artefacts list --of sql@1", "adapterbank artefacts remove sha256:1f2e3d4c"))
def artefacts_command() -> None:
    """List and remove what calibration made: statistics of versions, coefficients over several.

    ARTEFACT is sha256: and the first digits of its object.
    """


@command(
    "list",
    examples=("adapterbank artefacts list", "adapterbank artefacts list --of sql@1 --kind gram --json"),
    prints=(ArtefactsDocument,),
)
@click.option("--of", "ref", type=VersionRef(), metavar="REF", help="Those made for this version.")
@click.option("--kind", metavar="KIND", help="Those of this kind.")
@click.option("--family", type=click.Choice(FAMILIES), help="Statistics or coefficients.")
@pass_session
def list_command(session: Session, ref: str | None, kind: str | None, family: str | None) -> None:
    """List artefacts, oldest first."""
    found = session.open(readonly=True).artefacts(family=family, kind=kind, ref=ref)
    emit(session, document(ArtefactsDocument, {"artefacts": found}), pictures.artefacts)


@command(
    "remove",
    examples=("adapterbank artefacts remove sha256:1f2e3d4c --dry-run", "adapterbank artefacts remove sha256:1f2e3d4c"),
    prints=(RemovalDocument,),
)
@_artefacts
@dry_run
@pass_session
def remove_command(session: Session, artefacts: tuple[str, ...], dry_run: bool) -> None:
    """Remove artefacts that no merge needs. Exit code 11 with the merges that used one."""
    done = session.open().remove_artefacts(artefacts, dry_run=dry_run)
    emit(session, document(RemovalDocument, done), upkeep_pictures.removal)


@group(
    "coefficients",
    examples=("adapterbank coefficients list", "adapterbank coefficients export sha256:1f2e3d4c --name merged"),
)
def coefficients_command() -> None:
    """List, show, compare and export learned coefficients: how much of each adapter each module gets."""


@command(
    "list",
    examples=("adapterbank coefficients list", "adapterbank coefficients list --of sql@1 --kind adamerging"),
    prints=(ArtefactsDocument,),
)
@click.option("--of", "ref", type=VersionRef(), metavar="REF", help="Those over this version and others.")
@click.option("--kind", metavar="KIND", help="Those found by this procedure.")
@pass_session
def coefficients_list_command(session: Session, ref: str | None, kind: str | None) -> None:
    """List the sets of coefficients that are stored, oldest first."""
    found = session.open(readonly=True).artefacts(family="coefficients", kind=kind, ref=ref)
    emit(session, document(ArtefactsDocument, {"artefacts": found}), pictures.artefacts)


@command(
    "show",
    examples=("adapterbank coefficients show sha256:1f2e3d4c", "adapterbank coefficients show sha256:1f2e3d4c --json"),
    prints=(CoefficientsDocument,),
)
@_artefact
@pass_session
def show_command(session: Session, artefact: str) -> None:
    """Show one set: its values, and how they were found."""
    emit(session, _shown(session.open(readonly=True), artefact), pictures.coefficients)


@command(
    "compare",
    examples=(
        "adapterbank coefficients compare sha256:1f2e3d4c sha256:5a6b7c8d",
        "adapterbank coefficients compare sha256:1f2e3d4c sha256:5a6b7c8d --json",
    ),
    prints=(CoefficientsComparedDocument,),
)
@_artefacts
@pass_session
def compare_command(session: Session, artefacts: tuple[str, ...]) -> None:
    """Put several sets beside each other: means and spreads by adapter, and the cosines between the sets."""
    bank = session.open(readonly=True)
    found = bank.compare_coefficients(artefacts)
    emit(session, document(CoefficientsComparedDocument, found), pictures.compared)


@command(
    "export",
    examples=(
        "adapterbank coefficients export sha256:1f2e3d4c --name merged --rank 16",
        "adapterbank coefficients export sha256:1f2e3d4c --name merged --out merged/",
    ),
    prints=(MergedDocument,),
)
@_artefact
@click.option("--name", required=True, metavar="NAME", help="The name that the LoRA is a version of.")
@output_rank
@click.option("--out", "directory", type=click.Path(), metavar="DIR", help="Also write it as a PEFT directory.")
@pass_session
def export_command(session: Session, artefact: str, name: str, rank: Any, directory: str | None) -> None:
    """Make a LoRA from one set of coefficients and the adapters that it is over: a merge, with its recipe."""
    bank = session.open()
    with progress(session, "merge") as step:
        merged = bank.merge_coefficients(artefact, name=name, rank=rank, progress=step)
    if directory is not None:
        bank.export(merged.ref, directory)
    warn(merged.warnings)
    emit(session, document(MergedDocument, merged, ref=merged.version.ref), merge_pictures.merged)


def _shown(bank: Bank, ref: str) -> CoefficientsDocument:
    artefact, found = bank.artefact(ref), bank.coefficients(ref)
    if len(found.names) != len(artefact.versions):
        raise UsageError(f"{ref}: some of its adapters are not in this bank any more")
    refs = {bank.find(version).content: version for version in artefact.versions}
    rows = found.values.tolist()
    values = {refs[name]: dict(zip(found.modules, row, strict=True)) for name, row in zip(found.names, rows, strict=True)}
    told = {"versions": list(values), "modules": list(found.modules), "values": values, "units": len(found.units)}
    return document(CoefficientsDocument, {"ref": artefact.ref, "kind": artefact.kind, **told, "about": dict(found.about)})


for _command in (list_command, remove_command):
    artefacts_command.add_command(_command)
for _command in (coefficients_list_command, show_command, compare_command, export_command):
    coefficients_command.add_command(_command)
