"""Bases: build, inspect, extend, rebuild, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from adapterbank.cli.command import command, group
from adapterbank.cli.documents import document
from adapterbank.cli.documents.bases import (
    AddedDocument,
    BasesDocument,
    BasisDocument,
    BasisShowDocument,
    OptionsDocument,
    RebuiltDocument,
)
from adapterbank.cli.documents.upkeep import RemovalDocument
from adapterbank.cli.forms import detailed
from adapterbank.cli.options import DTYPES, Selection, dry_run, effort, force, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import BasisRef
from adapterbank.errors import UsageError
from adapterbank.report import bases as pictures
from adapterbank.report import upkeep as upkeep_pictures

if TYPE_CHECKING:
    from adapterbank.bank import Bank

GAUGES = ("given", "svd", "procrustes")
CODECS = ("rd", "rmm")
_SIZES = ("bits", "max_error", "budget", "components", "energy")
_basis = click.argument("basis", metavar="BASIS", type=BasisRef())


@group(
    "basis",
    examples=(
        "adapterbank basis build b1 sql@1 math@2",
        "adapterbank basis build b1 --where 'rank=16' --max-error 0.35",
        "adapterbank basis show b1",
    ),
)
def basis_command() -> None:
    """Build, inspect and change bases: collections of coded adapters, or RMM (arXiv 2510.14163).

    BASIS is a name (its newest version) or name@2.
    """


@command(
    "build",
    examples=(
        "adapterbank basis build b1 sql@1 math@2 law --max-error 0.35",
        "adapterbank basis build b1 @refs.txt --bits 0.25 --effort 2",
        "adapterbank basis build b1 @refs.txt --components 2 --gauge svd --store-dtype bfloat16",
    ),
    prints=(BasisDocument, OptionsDocument),
)
@_basis
@references()
@click.option(
    "--bits", type=click.FloatRange(0, min_open=True), metavar="B", help="At most so many bits per LoRA parameter, each member."
)
@click.option(
    "--max-error", type=click.FloatRange(min=0), metavar="E", help="As small as an error of at most E allows, each member."
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="F",
    help="As good as this share of the originals' bytes allows, all counted.",
)
@click.option("--components", type=click.IntRange(min=0), metavar="P", help="So many components: the published method.")
@click.option(
    "--energy",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="E",
    help="The least P that keeps this share of the variance.",
)
@click.option(
    "--codec", type=click.Choice(CODECS), help="rd: each adapter coded; rmm: the published method. Default: as asked."
)
@effort
@click.option("--gauge", type=click.Choice(GAUGES), help="Of rmm: coordinates before the fit. Default: given.")
@click.option("--store-dtype", "dtype", type=click.Choice(DTYPES), help="Of rmm: as stored. Default: float32.")
@force("Build even if the basis is larger than its originals.")
@pass_session
def build_command(session: Session, basis: str, selection: Selection, force: bool, **options: Any) -> None:
    """Build a basis from adapters of one base model, and store each of them in it.

    With --bits, --max-error or --budget each adapter is coded by itself, and against others where that saves bytes (codec rd).
    --components, --energy, --gauge and --store-dtype mean one mean and one set of components for all (codec rmm). Without a
    size it prints the sizes that are possible so, with their bytes and errors, and exits with 2. Errors are relative in ΔW and
    measured from what was stored.
    """
    given = {key: value for key, value in options.items() if value is not None}
    sizes = [key for key in _SIZES if key in given]
    bank = session.open()
    refs = selection.of(bank)
    if not sizes:
        _show_sizes(session, bank, refs, given)
    if len(sizes) > 1:
        raise UsageError(f"expected one of {_flags(_SIZES)}, got {_flags(sizes)}")
    with progress(session, "build") as step:
        built = bank.build_basis(basis, refs, force=force, progress=step, **given)
    emit(session, document(BasisDocument, built), lambda row: pictures.bases({"bases": [row]}))


def _show_sizes(session: Session, bank: Bank, refs: list[str], given: Mapping[str, Any]) -> NoReturn:
    """Print what sizes an RMM basis could have, and say that one is missing."""
    if given.get("codec") == CODECS[0] or "effort" in given:
        raise UsageError("no size given: --bits, --max-error or --budget", hint=session.again("--max-error 0.35"))
    how = {"gauge": given.get("gauge", GAUGES[0]), "dtype": given.get("dtype", DTYPES[0])}
    with progress(session, "measure") as step:
        options = bank.basis_options(refs, progress=step, **how)
    emit(session, document(OptionsDocument, {"options": options}), pictures.options)
    smaller = max((o.components for o in options if o.components <= 3 and o.ratio <= 1), default=0)
    raise UsageError("no size given", hint=session.again(f"--components {smaller}"))


def _flags(keys: Any) -> str:
    return ", ".join(f"--{key.replace('_', '-')}" for key in keys)


@command("list", examples=("adapterbank basis list", "adapterbank basis list b1 --json"), prints=(BasesDocument,))
@click.argument("name", metavar="[NAME]", required=False, type=BasisRef())
@pass_session
def list_command(session: Session, name: str | None) -> None:
    """List bases, all or the versions of one name."""
    emit(session, document(BasesDocument, {"bases": session.open(readonly=True).bases(name)}), pictures.bases)


@command("show", examples=("adapterbank basis show b1", "adapterbank basis show b1@2 --modules"), prints=(BasisShowDocument,))
@_basis
@click.option("--modules", is_flag=True, help="Also how every module is stored, and its error.")
@pass_session
def show_command(session: Session, basis: str, modules: bool) -> None:
    """Show a basis, its members and their errors."""
    bank = session.open(readonly=True)
    forms = detailed(bank, bank.members(basis), modules)
    found = document(BasisShowDocument, bank.basis(basis), forms=forms, settings=bank.basis_settings(basis))
    emit(session, found, pictures.basis)


@command(
    "add",
    examples=("adapterbank basis add b1 law@1", "adapterbank basis add b1 --where 'tag.team=data'"),
    prints=(AddedDocument,),
)
@_basis
@references()
@force("Add a member even if its error is above the basis's bound; the error is recorded.")
@pass_session
def add_command(session: Session, basis: str, selection: Selection, force: bool) -> None:
    """Store more adapters in a basis that stays as it is: coded like the others, or projected on it (codec rmm)."""
    bank = session.open()
    refs, added = selection.of(bank), []
    for number, ref in enumerate(refs, 1):
        with progress(session, f"add {ref} ({number} of {len(refs)})") as step:
            added.append(bank.add_to_basis(basis, ref, force=force, progress=step))
    emit(session, document(AddedDocument, {"forms": added}), pictures.forms)


@command(
    "rebuild",
    examples=("adapterbank basis rebuild b1", "adapterbank basis rebuild b1 sql@2 math@2 law@1 --components 3"),
    prints=(RebuiltDocument,),
)
@_basis
@references("[REF]...")
@click.option("--components", type=click.IntRange(min=0), metavar="P", help="Of rmm. Default: as many as now.")
@click.option(
    "--accept-generation-loss", is_flag=True, help="Also from members whose exact bytes are gone; errors are bounds then."
)
@force("Rebuild even if the basis gets larger than its originals.")
@pass_session
def rebuild_command(session: Session, basis: str, selection: Selection, **options: Any) -> None:
    """Build the next version of a basis from its members, or from the versions named.

    The old version stays while anything needs it.
    """
    bank = session.open()
    refs = selection.of(bank) if selection else None
    with progress(session, "fit") as step:
        rebuilt = bank.rebuild_basis(basis, refs=refs, progress=step, **options)
    shown = document(RebuiltDocument, rebuilt, before_forms=rebuilt.before_members, after_forms=rebuilt.after_members)
    emit(session, shown, pictures.rebuilt)


@command(
    "remove",
    examples=("adapterbank basis remove b1@1 --dry-run", "adapterbank basis remove b1@1"),
    prints=(RemovalDocument,),
)
@_basis
@dry_run
@pass_session
def remove_command(session: Session, basis: str, dry_run: bool) -> None:
    """Remove a basis and its stored forms, unless something needs them."""
    emit(session, document(RemovalDocument, session.open().remove_basis(basis, dry_run=dry_run)), upkeep_pictures.removal)


for _command in (build_command, list_command, show_command, add_command, rebuild_command, remove_command):
    basis_command.add_command(_command)
