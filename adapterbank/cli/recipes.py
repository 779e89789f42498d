"""Recipes: those of merges that are there, as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterbank.cli.command import command, group
from adapterbank.cli.documents import document
from adapterbank.cli.documents.recipes import RecipeTextDocument
from adapterbank.cli.options import reference
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.errors import ConflictError, StorageError
from adapterbank.report import merges as pictures

if TYPE_CHECKING:
    from adapterbank.bank import Bank


@group(
    "recipe",
    examples=("adapterbank recipe show sql-math", "adapterbank recipe export sql-math sql-math.yaml"),
)
def recipe_command() -> None:
    """Show a merge's recipe, and write it as a file that "merge --recipe" takes."""


@command(
    "show",
    examples=("adapterbank recipe show sql-math", "adapterbank recipe show sql-math@1 --json"),
    prints=(RecipeTextDocument,),
)
@reference
@pass_session
def show_command(session: Session, ref: str) -> None:
    """Print the recipe of a merge as YAML."""
    emit(session, _told(session.open(readonly=True), ref, None), pictures.recipe_text)


@command(
    "export",
    examples=("adapterbank recipe export sql-math sql-math.yaml", "adapterbank recipe export sql-math@2 recipe.yaml --json"),
    prints=(RecipeTextDocument,),
)
@reference
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@pass_session
def export_command(session: Session, ref: str, file: Path) -> None:
    """Write the recipe of a merge to a YAML file, which gives the same merge again, here or in another bank."""
    told = _told(session.open(readonly=True), ref, str(file))
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(told["text"])
    except FileExistsError:
        raise ConflictError(f"{file} exists", hint="name a file that does not exist yet") from None
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from None
    emit(session, told, pictures.recipe_written)


def _told(bank: Bank, ref: str, path: str | None) -> RecipeTextDocument:
    text: dict[str, Any] = {"ref": bank.find(ref).ref, "path": path, "text": bank.recipe_text(ref)}
    return document(RecipeTextDocument, {**text, "digest": bank.recipe_digest(ref)})


for _command in (show_command, export_command):
    recipe_command.add_command(_command)
