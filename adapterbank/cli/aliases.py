"""Aliases: movable names for versions."""

from __future__ import annotations

from typing import Any

import click

from adapterbank.cli.command import command, group
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import EventDocument
from adapterbank.cli.documents.names import AliasesDocument, AliasRemovalDocument
from adapterbank.cli.options import dry_run
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import AliasPlace, Expected, VersionNumber, VersionRef
from adapterbank.report import adapters as version_pictures
from adapterbank.report import names as pictures


@group(
    "alias", examples=("adapterbank alias set sql@prod 3", "adapterbank alias list sql", "adapterbank alias remove sql@prod")
)
def alias_command() -> None:
    """Set, list and remove aliases: movable names for versions."""


@command(
    "set",
    examples=(
        "adapterbank alias set sql@prod 3",
        "adapterbank alias set sql@prod 4 --expect 3",
        "adapterbank alias set sql@new 1 --expect none",
    ),
    prints=(EventDocument,),
)
@click.argument("place", metavar="NAME@ALIAS", type=AliasPlace())
@click.argument("version", metavar="VERSION", type=VersionNumber())
@click.option("--expect", metavar="VERSION|none", type=Expected(), default="any", help="Refuse if the alias is elsewhere now.")
@pass_session
def set_command(session: Session, place: tuple[str, str], version: int, expect: Any) -> None:
    """Point an alias at a version.

    With --expect it is a compare-and-swap: exit code 4 if the alias was not where it was expected.
    """
    event = session.open().set_alias(*place, version, expect=expect)
    emit(session, document(EventDocument, event), version_pictures.event)


@command("list", examples=("adapterbank alias list", "adapterbank alias list sql --json"), prints=(AliasesDocument,))
@click.argument("name", metavar="[NAME]", required=False, type=VersionRef())
@pass_session
def list_command(session: Session, name: str | None) -> None:
    """List aliases, of all names or of one."""
    emit(session, document(AliasesDocument, {"aliases": session.open(readonly=True).list_aliases(name)}), pictures.aliases)


@command(
    "remove",
    examples=("adapterbank alias remove sql@prod", "adapterbank alias remove sql@prod --dry-run"),
    prints=(AliasRemovalDocument,),
)
@click.argument("place", metavar="NAME@ALIAS", type=AliasPlace())
@dry_run
@pass_session
def remove_command(session: Session, place: tuple[str, str], dry_run: bool) -> None:
    """Remove an alias; its history stays."""
    event = session.open().remove_alias(*place, dry_run=dry_run)
    gone = document(AliasRemovalDocument, event, name=place[0], version=event.old, dry_run=dry_run)
    emit(session, gone, pictures.alias_removal)


for _command in (set_command, list_command, remove_command):
    alias_command.add_command(_command)
