"""Looking before and after: how adapters meet, several methods beside each other, blends, clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.explained import BlendDocument, ClusteringDocument, ComparisonDocument, ExplanationDocument
from adapterbank.cli.documents.recipes import opened
from adapterbank.cli.hooks import evaluation
from adapterbank.cli.options import DTYPES, Selection, merging, output_rank, references
from adapterbank.cli.output import emit, tell
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import MethodName, Step, VersionRef, expand
from adapterbank.errors import UsageError
from adapterbank.report import explained as pictures
from adapterbank.report import plots

_SETTINGS = ("rank", "absent", "prepare", "schedules", "seed", "dtype")
ALGORITHMS = ("kmeans", "agglomerative")


def _plot(function: Callable[..., Any]) -> Callable[..., Any]:
    help_ = "Also draw it to this file (PNG, PDF, SVG; needs the extra plot)."
    return click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help=help_)(function)


@command(
    "explain",
    examples=(
        "adapterbank explain sql-math",
        "adapterbank explain sql@1 math@2 law@1 --modules --plot conflicts.png",
    ),
    prints=(ExplanationDocument,),
)
@references("REF[=WEIGHT]...")
@click.option("--modules", is_flag=True, help="Also every module; by default those with the most conflict.")
@_plot
@pass_session
def explain_command(session: Session, selection: Selection, modules: bool, plot: Path | None) -> None:
    """Show what went into a merge and where its adapters are against each other.

    Inputs, weights, norms, the matrix of cosines, the share of entries with opposite signs, how much cancels, and how much of
    each adapter is in the result. With several REFs: the same for a merge that is not made yet.
    """
    bank = session.open(readonly=True)
    weights = selection.weights(bank)
    if not weights:
        raise UsageError("expected a merge, or several adapters", hint="adapterbank list --where 'method=ties'")
    asked = next(iter(weights)) if len(weights) == 1 else weights
    with progress(session, "explain") as step:
        found = bank.explain(asked, progress=step)
    recipe = opened(bank.recipe(found.ref)) if found.ref is not None else None
    shown = document(ExplanationDocument, found, recipe=recipe)
    emit(session, shown, lambda row: pictures.explanation(row, every_module=modules))
    if plot is not None:
        plots.explanation(shown, plot)
        tell(f"drawn: {plot}")


@command(
    "compare",
    examples=(
        "adapterbank compare average ties dare_ties --on sql@1 math@2 law@1",
        "adapterbank compare ties:density=0.1 ties:density=0.3 --on @refs.txt --evaluate judge.py:accuracy --plot table.png",
    ),
    prints=(ComparisonDocument,),
    spread=("--on",),
)
@click.argument("methods", metavar="METHOD[:K=V,...]...", nargs=-1, required=True, type=Step(MethodName()))
@click.option("--on", "refs", multiple=True, type=VersionRef(), metavar="REF[=WEIGHT]...", help="The adapters to merge.")
@click.option("--where", metavar="EXPR", help="Also the versions that this selects, such as 'rank=16 and base~llama'.")
@output_rank
@merging
@evaluation
@_plot
@pass_session
def compare_command(
    session: Session, methods: Any, refs: tuple[str, ...], where: str | None, evaluate: Any, plot: Path | None, **given: Any
) -> None:
    """Run several methods on the same adapters and put residual, norm, time and scores beside each other.

    Nothing is stored. A method that cannot be run is told as failed. With --evaluate each merge is judged by your function.
    """
    bank = session.open(readonly=True)
    weights = Selection(expand(refs), where).weights(bank)
    settings = {key: given[key] for key in _SETTINGS}
    with progress(session, "compare") as step:
        found = bank.compare(methods, weights, evaluate=evaluate, settings=settings, progress=step)
    shown = document(ComparisonDocument, found)
    emit(session, shown, pictures.comparison)
    if plot is not None:
        plots.comparison(shown, plot)
        tell(f"drawn: {plot}")


@command(
    "blend",
    examples=(
        "adapterbank blend sql@1=0.7 math@2=0.3 --out blended/",
        "adapterbank blend sql@1 math@2=-0.5 --out blended/ --rank 16 --json",
    ),
    prints=(BlendDocument,),
)
@references("REF[=WEIGHT]...")
@click.option("--out", "directory", required=True, type=click.Path(), metavar="DIR", help="The PEFT directory to write.")
@output_rank
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="As written.")
@pass_session
def blend_command(session: Session, selection: Selection, directory: str, rank: Any, dtype: str) -> None:
    """Write a weighted sum of adapters as a PEFT directory; nothing is stored.

    Exact in ΔW: the adapters side by side along the rank axis. With --rank, --energy or --max-error it is cut, and the
    residual printed.
    """
    bank = session.open(readonly=True)
    with progress(session, "blend") as step:
        done = bank.write_blend(selection.weights(bank), directory, rank=rank, dtype=dtype, progress=step)
    emit(session, document(BlendDocument, done), pictures.blend)


@command(
    "cluster",
    examples=(
        "adapterbank cluster --where 'rank=16' --clusters 3",
        "adapterbank cluster sql@1 math@2 law@1 --clusters 2 --merge sub_moe --name group",
    ),
    prints=(ClusteringDocument,),
)
@references()
@click.option("--clusters", type=click.IntRange(min=1), required=True, metavar="K", help="How many.")
@click.option("--algorithm", type=click.Choice(ALGORITHMS), default="kmeans", show_default=True, help="How they are found.")
@click.option("--merge", "method", type=MethodName(), metavar="METHOD", help="Also merge each cluster of two or more.")
@click.option("--name", metavar="NAME", help="The merges are versions of NAME-1, NAME-2 ...")
@pass_session
def cluster_command(session: Session, selection: Selection, **given: Any) -> None:
    """Sort adapters into groups by the cosines of their ΔW (Sub-MoE, arXiv 2506.23266), and merge each group if asked."""
    bank = session.open(readonly=given["method"] is None)
    with progress(session, "cluster") as step:
        found = bank.cluster(selection.of(bank), progress=step, **given)
    emit(session, document(ClusteringDocument, found), pictures.clustering)
