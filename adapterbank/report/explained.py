"""Pictures of how adapters meet: explanations, comparisons, blends, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapterbank.report.adapters import recipe
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.held_out import held_out
from adapterbank.report.words import error, figure, pairs, safe, several, share, size

_INPUTS = (
    Column("#", "number", right=True),
    Column("input", "ref", style="cyan", whole=True),
    Column("weight", "weight", figure, right=True),
    Column("norm", "norm", figure, right=True),
    Column("in the merge", "kept", figure, right=True),
)
_CONFLICT = (
    Column("norm of the merge", "merged_norm", figure),
    Column("residual", "residual", error),
    Column("opposite signs", "disagreement", share),
    Column("cancelled in the sum", "cancelled", share),
)
_MODULES = (
    Column("module", "name", style="cyan", cut=True),
    Column("cancelled", "cancelled", share, right=True),
    Column("of all", "bar"),
    Column("opposite signs", "disagreement", share, right=True),
    Column("cosines", "cosines"),
    Column("residual", "residual", error, right=True),
)
_COMPARED = (
    Column("method", "method", style="cyan", whole=True),
    Column("options", "options", pairs),
    Column("score", "score", figure, right=True),
    Column("residual", "residual", error, right=True),
    Column("norm", "norm", figure, right=True),
    Column("rank", "rank", right=True),
    Column("seconds", "seconds", figure, right=True),
    Column("by task", "scores", lambda scores: ", ".join(f"{safe(task)} {value:.3g}" for task, value in scores.items())),
    Column("failed", "failed", style="red"),
)
_CLUSTERS = (
    Column("cluster", "number", right=True),
    Column("adapters", "refs", several, style="cyan"),
    Column("merged", "merged", style="green"),
)
_SHOWN = 8  # modules without --modules
_STEPS = "▁▂▃▄▅▆▇█"


def explanation(document: Row, *, every_module: bool = False) -> RenderableType:
    """Inputs, their cosines, conflicts over the model and in modules; of a merge its recipe first."""
    parts: list[RenderableType] = []
    if document["recipe"] is not None:
        parts += [line(document["ref"], "bold"), recipe(document["recipe"])]
    kept = document["kept"] or [None] * len(document["inputs"])
    told = zip(document["inputs"], document["weights"], document["norms"], kept, strict=True)
    rows = [
        {"number": number, "ref": ref, "weight": weight, "norm": norm, "kept": cosine}
        for number, (ref, weight, norm, cosine) in enumerate(told, start=1)
    ]
    parts += held_out(document["held_out"])
    parts += titled("Inputs", grid(_INPUTS, rows, ""))
    parts += titled("Cosines", matrix(document["inputs"], document["cosine"]))
    parts += titled("Conflict", facts(_CONFLICT, document))
    parts += _modules(document["modules"], every_module)
    return Group(*parts)


def matrix(names: Sequence[str], values: Sequence[Sequence[float]]) -> RenderableType:
    """A square of numbers between −1 and 1, coloured where the terminal has colours: blue agrees, red is against."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("")
    for number in range(1, len(names) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for number, (name, row) in enumerate(zip(names, values, strict=True), start=1):
        table.add_row(f"{number} {safe(name)}", *(Text(f"{value:.2f}", style=_colour(value)) for value in row))
    return table


def comparison(document: Row) -> RenderableType:
    """A row per method, the best score (or the smallest residual) marked."""
    rows = document["methods"]
    best = _best(rows)
    marked = [{**row, "method": f"{row['method']} *" if row is best else row["method"]} for row in rows]
    inputs = ", ".join(f"{ref}={weight:g}" for ref, weight in zip(document["inputs"], document["weights"], strict=True))
    return Group(grid(_COMPARED, marked, "no methods"), line(f"on {inputs}", "dim"))


def blend(document: Row) -> RenderableType:
    """A mixture written."""
    said = f"{pairs(document['weights'])} -> {document['path']}  rank {document['rank']}, {size(document['bytes'])}"
    return line(f"{said}, " + ("exact" if document["residual"] == 0.0 else f"residual {error(document['residual'])}"))


def clustering(document: Row) -> RenderableType:
    """A row per cluster, then how alike adapters are within and between them."""
    rows = [{"number": number, **each} for number, each in enumerate(document["clusters"], start=1)]
    known = {"within clusters": document["within"], "between clusters": document["between"]}
    told = {key: value for key, value in known.items() if value is not None}
    means = facts([Column(f"mean cosine {key}", key, figure) for key in told], told)
    return Group(grid(_CLUSTERS, rows, ""), means, *titled("Cosines", matrix(document["inputs"], document["cosine"])))


def _modules(modules: Sequence[Row], every_module: bool) -> list[RenderableType]:
    """Those in which most cancels, or all in their order."""
    shown = modules if every_module else sorted(modules, key=lambda module: -module["cancelled"])[:_SHOWN]
    rows = [{**module, "bar": _bar(module["cancelled"]), "cosines": _range(module["cosine"])} for module in shown]
    title = "Modules" if len(shown) == len(modules) else f"Modules (the {len(shown)} of {len(modules)} where most cancels)"
    return titled(title, grid(_MODULES, rows, ""))


def _range(cosine: Sequence[Sequence[float]]) -> str:
    """The least and the largest cosine of two different adapters."""
    found = [value for i, row in enumerate(cosine) for value in row[i + 1 :]]
    return f"{min(found):.2f} to {max(found):.2f}" if found else ""


def _bar(value: float) -> str:
    """A bar of ten characters for 0 to 1."""
    eighths = round(max(0.0, min(1.0, value)) * 80)
    return _STEPS[-1] * (eighths // 8) + (_STEPS[eighths % 8 - 1] if eighths % 8 else "")


def _colour(value: float) -> str:
    if abs(value) < 0.05:
        return "dim"
    return ("bold " if abs(value) > 0.5 else "") + ("blue" if value > 0 else "red")


def _best(rows: Sequence[Row]) -> Any:
    judged = [row for row in rows if row["score"] is not None]
    if judged:
        return max(judged, key=lambda row: row["score"])
    return None
