"""Merges: make, list methods, replay, revert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import ExportedDocument
from adapterbank.cli.documents.merges import MergedDocument, ReplayDocument, RevertedDocument
from adapterbank.cli.hooks import HELD_OUT, evaluation, setting_of, with_data
from adapterbank.cli.options import Selection, device, force, merging, output_rank, reference, references
from adapterbank.cli.output import emit, warn
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import MethodName, Pair, VersionRef, weighted
from adapterbank.errors import IntegrityError, UsageError
from adapterbank.report import merges as pictures

if TYPE_CHECKING:
    from adapterbank.bank import Bank

_ENTRY = ("name", "alias", "tags", "note", "force", "device")
_FLAGS = {"options": "--option", "schedules": "--weights-by", "setting": "--with", "held_out": "--held-out"}
_DEFAULTS: dict[str, Any] = {"absent": "zero", "seed": 0, "dtype": "float32", "held_out": HELD_OUT}


@command(
    "merge",
    examples=(
        "adapterbank merge ties sql@1=1 math@2=0.5 --name sql-math --option density=0.2 --energy 0.9",
        "adapterbank merge regmean @refs.txt --name all --with data.py:setting",
        "adapterbank merge --from sql-math --add law@1",
    ),
    prints=(MergedDocument,),
)
@click.argument("method", metavar="[METHOD]", required=False, type=MethodName())
@references("[REF[=WEIGHT]]...")
@click.option("--name", metavar="NAME", help="The name that the result is a version of.")
@output_rank
@click.option(
    "--option", "options", multiple=True, type=Pair(), metavar="K=V", help="An option of the method; may be repeated."
)
@merging
@click.option("--using", multiple=True, metavar="ARTEFACT", help="What it needs: sha256:PREFIX or a kind; may be repeated.")
@with_data
@click.option("--metric", metavar="KEY", help="The metric of the registry by which adapters are weighed.")
@evaluation
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="The merge that a YAML file says.")
@click.option("--from", "merge", type=VersionRef(), metavar="MERGE", help="A merge, with --add or --remove.")
@click.option("--add", type=VersionRef(), metavar="REF[=W]", help="That merge with one adapter more.")
@click.option("--remove", type=VersionRef(), metavar="REF", help="That merge without one of its adapters.")
@device
@click.option("--alias", metavar="A", help="Point this alias at the result.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="K=V", help="A tag; may be repeated.")
@click.option("--note", metavar="TEXT", help="A note.")
@force("Register even if the same content is there in other bytes.")
@pass_session
def merge_command(session: Session, method: str | None, selection: Selection, **given: Any) -> None:
    """Merge adapters into a new version, with its recipe.

    The residual is what the cut to the output rank lost, relative in ΔW. "adapterbank methods" lists METHODs and what each
    needs. In place of METHOD and REFs, --recipe FILE takes a recipe that "recipe export" wrote or a person, and --from MERGE
    takes one that is there, with one adapter more or less. What was learned by --with is judged by the data that it holds out:
    the merge before the cut and after it, each beside what the method started from.
    """
    bank = session.open()
    entry = {key: given.pop(key) for key in _ENTRY} | {"tags": dict(given.pop("tags", ()))}
    with progress(session, "merge") as step:
        merged = _merged(bank, method, selection, given, {**entry, "progress": step})
    warn(merged.warnings)
    emit(session, document(MergedDocument, merged, ref=merged.version.ref), pictures.merged)


def _merged(bank: Bank, method: str | None, selection: Selection, given: dict[str, Any], entry: dict[str, Any]) -> Any:
    recipe, merge, add, remove = (given.pop(key) for key in ("recipe", "merge", "add", "remove"))
    if recipe is not None:
        _nothing_else("--recipe", method, selection, merge, add, remove, **given)
        return bank.merge_recipe(_text(recipe), where=str(recipe), **_named(entry))
    if merge is not None:
        hook, using, held_out = given.pop("setting"), given.pop("using"), given.pop("held_out")
        _nothing_else("--from", method, selection, **given)
        weights = weighted([add]) if add else {}
        setting = setting_of(hook, [*_constituents(bank, merge), *(bank.find(ref).ref for ref in weights)])
        return bank.merge_again(merge, add=weights, remove=remove, using=using, setting=setting, held_out=held_out, **entry)
    if method is None or add or remove:
        raise UsageError("expected a METHOD and adapters, --recipe FILE, or --from MERGE with --add or --remove")
    weights = selection.weights(bank)
    setting = setting_of(given.pop("setting"), [bank.find(ref).ref for ref in weights])
    given |= {"options": dict(given["options"])}
    return bank.merge(method, weights, setting=setting, **given, **_named(entry))


def _constituents(bank: Bank, merge: str) -> list[str]:
    recipe = bank.recipe(merge)
    return [] if recipe is None else list(recipe.body["refs"])


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    if not entry["name"]:
        raise UsageError("a merge needs a name", hint="--name NAME")
    return entry


def _nothing_else(option: str, *words: Any, **given: Any) -> None:
    """Raise UsageError for anything that says again what the recipe says."""
    others = [_FLAGS.get(key, f"--{key}") for key, value in given.items() if value and value != _DEFAULTS.get(key)]
    if any(words) or others:
        raise UsageError(f"{option} says the whole merge: it does not go with {', '.join(others) or 'METHOD or --from'}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read as a recipe: {reason}") from None


@command("replay", examples=("adapterbank replay sql-math@1", "adapterbank replay sql-math --json"), prints=(ReplayDocument,))
@reference
@device
@pass_session
def replay_command(session: Session, ref: str, device: str) -> None:
    """Merge again from the recipe and compare.

    From what is stored alone: a merge that learned from data needs the artefacts that it used, and no data. The outcome is
    "bits" (the same digest), "within 3e-7" or "differs" (exit code 5), with what changed in the environment.
    """
    with progress(session, "replay") as step:
        replay = session.open(readonly=True).replay(ref, device=device, progress=step)
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
