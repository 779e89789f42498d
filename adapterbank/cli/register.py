"""Registration: one directory, successive versions of a name, or everything below a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from adapterbank.cli.command import command
from adapterbank.cli.discover import NAMERS, find_adapters
from adapterbank.cli.documents import document
from adapterbank.cli.documents.adapters import BulkDocument, RegisteredDocument
from adapterbank.cli.options import force
from adapterbank.cli.output import emit, tell, warn
from adapterbank.cli.progress import progress
from adapterbank.cli.servers import SERVERS
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import NumberPair, Pair, VersionRef
from adapterbank.errors import RefusedInputError, UsageError
from adapterbank.report import adapters as pictures

STATUSES = ("registered", "unchanged", "restored", "refused")
_ONE = ("alias", "parent")  # options that mean one version


@command(
    "register",
    examples=(
        "adapterbank register out/sql --name sql --alias prod --tag team=data --metric acc=0.91",
        "adapterbank register run/checkpoint-500 run/checkpoint-1000 --name sql",
        "adapterbank register --recursive runs/ --name-from dir",
    ),
    prints=(RegisteredDocument, BulkDocument),
)
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="The name; with several DIRs, successive versions of it.")
@click.option("--name-from", type=click.Choice(list(NAMERS)), help="In bulk: each adapter's name, from where it lies.")
@click.option("--recursive", metavar="ROOT", multiple=True, type=click.Path(path_type=Path), help="Every adapter below ROOT.")
@click.option("--base-model", metavar="ID", help="The base model; default: what the configuration says.")
@click.option("--alias", metavar="A", help="Point this alias at the new version.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="K=V", help="A tag; may be repeated.")
@click.option("--metric", "metrics", multiple=True, type=NumberPair(), metavar="K=NUMBER", help="A metric; may be repeated.")
@click.option("--note", metavar="TEXT", help="A note.")
@click.option("--parent", type=VersionRef(), metavar="REF", help="The version that this one was trained from.")
@click.option("--for", "servers", multiple=True, type=click.Choice(SERVERS), help="Refuse what this server cannot serve.")
@force("Register even if the same content is there in other bytes.")
@pass_session
def register_command(session: Session, directories: tuple[Path, ...], name: str | None, **options: Any) -> None:
    """Put adapters into the bank: each directory becomes an immutable version.

    The same files again are the same version, and it says so; a version that was compacted gets its exact bytes back. In
    bulk every adapter is a transaction of its own: run it again after an interruption and it goes on. Adapters that are
    refused are listed with their codes, the others are registered, and the exit code is 7. With --name-from dir the name is
    that of the directory; with --name-from config it is the configuration's adapter_name or name, else the base model's and
    the directory's, joined by a dash.
    """
    name_from, roots = options.pop("name_from"), options.pop("recursive")
    options |= {"tags": dict(options["tags"]), "metrics": dict(options["metrics"])}
    found = [*directories, *(path for root in roots for path in find_adapters(root))]
    _check(found, name, name_from, roots)
    if name is not None and len(directories) == 1 and not roots:
        _register_one(session, directories[0], name, options)
    else:
        named = NAMERS[name_from] if name is None else (lambda _: name)
        _register_many(session, [(path, named(path)) for path in found], options)


def _check(found: list[Path], name: str | None, name_from: str | None, roots: tuple[Path, ...]) -> None:
    if (name is None) == (name_from is None):
        raise UsageError("expected one of --name and --name-from", hint="adapterbank register --help")
    if not found:
        where = f" below {', '.join(map(str, roots))}" if roots else ", expected at least one DIR or --recursive ROOT"
        raise UsageError(f"no adapter directory{where}", hint="an adapter directory holds adapter_config.json")


def _register_one(session: Session, path: Path, name: str, options: dict[str, Any]) -> None:
    registered = session.open().register(path, name=name, **options)
    warn(registered.warnings)
    if registered.not_kept and not session.json:
        tell(f"not kept: {', '.join(registered.not_kept)}")
    emit(session, document(RegisteredDocument, registered, ref=registered.version.ref), pictures.registered)


def _register_many(session: Session, items: list[tuple[Path, str]], options: dict[str, Any]) -> None:
    given = [f"--{key}" for key in _ONE if options.pop(key) is not None]
    if given:
        raise UsageError(f"{' and '.join(given)}: only with one DIR, got {len(items)}")
    outcomes = []
    with progress(session, "register") as step:
        for outcome in session.open().register_many(items, **options):
            outcomes.append(outcome)
            if step:
                step(len(outcomes), len(items))
    counts = dict.fromkeys(STATUSES, 0) | Counter(outcome.status for outcome in outcomes)
    emit(session, document(BulkDocument, {**counts, "outcomes": outcomes}), pictures.outcomes)
    if counts["refused"]:
        raise RefusedInputError(f"{counts['refused']} of {len(items)} adapters were refused, the others are in the bank")
