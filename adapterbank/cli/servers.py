"""Inference servers: directories that they read, the flags that they need, and a running one told to load."""

from __future__ import annotations

from pathlib import Path

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.servers import LaunchFlagsDocument, LoadedDocument, MaterializeDocument
from adapterbank.cli.options import DTYPES, Selection, reference, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.report import servers as pictures

SERVERS = ("vllm", "sglang", "lorax", "peft")
FORMS = ("auto", "exact", "bounded")


@command(
    "materialize",
    examples=(
        "adapterbank materialize sql@1 math@2 adapters/ --for vllm",
        "adapterbank materialize @refs.txt adapters/ --rank 16 --dtype bfloat16",
    ),
    prints=(MaterializeDocument,),
)
@references("REF...")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--for", "server", type=click.Choice(SERVERS), default="peft", show_default=True, help="Whose limits to check.")
@click.option("--rank", type=click.IntRange(min=1), metavar="R", help="Of every module. Default: each adapter's largest.")
@click.option("--dtype", type=click.Choice(DTYPES), help="As written. Default: the adapter's own if that is exact.")
@click.option("--form", type=click.Choice(FORMS), default="auto", show_default=True, help="auto: exact bytes if they are kept.")
@pass_session
def materialize_command(
    session: Session, selection: Selection, directory: Path, server: str, rank: int | None, dtype: str | None, form: str
) -> None:
    """Write versions as canonical directories DIR/NAME@N: one rank, scaling 1, as servers read them.

    Servers read one alpha and one r for all modules and ignore patterns; here alpha = r, the scaling is in B, and smaller ranks
    are filled up with zeros. A directory that is there already is checked and left as it is. All or nothing for each.
    """
    bank = session.open()
    with progress(session, "materialize") as step:
        done = bank.materialize(selection.of(bank), directory, server=server, rank=rank, dtype=dtype, form=form, progress=step)
    emit(session, document(MaterializeDocument, {"directories": done}), pictures.materialized)


@command(
    "launch-flags",
    examples=(
        "adapterbank launch-flags --for vllm --where 'tag.team=data'",
        "adapterbank launch-flags --for sglang sql@1 math@2",
    ),
    prints=(LaunchFlagsDocument,),
)
@references("REF...")
@click.option("--for", "server", type=click.Choice(SERVERS[:3]), required=True, help="The server to start.")
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, help="Adapters in one batch.")
@click.option(
    "--model", metavar="PATH_OR_NAME", help="The base model. Default: its alias that is a folder here, else its name."
)
@pass_session
def launch_flags_command(session: Session, selection: Selection, server: str, slots: int, model: str | None) -> None:
    """Print how a server is started so that it can serve these versions from this bank.

    vLLM and the others take a model by its folder or by its name on a hub: "adapterbank model alias NAME FOLDER" says where
    it is, and vLLM's plugin then knows that folder.
    """
    bank = session.open()
    flags = bank.launch_flags(selection.of(bank), server=server, slots=slots, model=model)
    emit(session, document(LaunchFlagsDocument, flags), pictures.launch_flags)


@command(
    "load",
    examples=(
        "adapterbank load sql@1 adapters/ --url http://127.0.0.1:30000",
        "adapterbank load sql@1 adapters/ --url http://127.0.0.1:30000 --pinned --json",
    ),
    prints=(LoadedDocument,),
)
@reference
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--url", required=True, metavar="URL", help="Of a running SGLang.")
@click.option("--pinned", is_flag=True, help="SGLang never evicts it.")
@pass_session
def load_command(session: Session, ref: str, directory: Path, url: str, pinned: bool) -> None:
    """Have a running SGLang load a version: its directory is written first.

    SGLang reads the directory again whenever it has evicted the adapter: keep it for as long as the server runs.
    """
    from adapterbank.integrations.sglang import load_adapter

    bank = session.open()
    (done,) = bank.materialize([bank.find(ref).ref], directory, server="sglang")
    load_adapter(url, done.ref, done.path, pinned=pinned)
    emit(
        session,
        document(LoadedDocument, {"ref": done.ref, "name": done.ref, "path": done.path, "server": url}),
        pictures.loaded,
    )
