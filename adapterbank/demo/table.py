"""The demo's tables."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapterbank.demo.result import AdapterFigures, MergeFigures, Result, SizeOption


def picture(result: Result) -> RenderableType:
    """The sizes that the basis could have, what became of each adapter, what it answers, and the merges."""
    answers = _answers(result) if result["mean_accuracy"] else Text(f"No accuracies: {result['not_measured']}\n")
    return Group(
        _sizes(result),
        _bytes(result),
        _coded(result),
        answers,
        _merges(result["merges"]),
        Text(f"{result['seconds']} s in all"),
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _sizes(result: Result) -> Table:
    """One line for each number of components; equal bytes in every gauge, so their figures stand beside each other."""
    gauges = list(result["options"])
    columns = [f"{gauge}: {figure}" for gauge in gauges for figure in ("ΔW error", "accuracy %", "same %")]
    title = f"A basis of all {len(result['adapters'])} by number of components and gauge (means; the one below is marked)"
    table = _table(title, "components", "bytes", "of originals", *columns)
    for rows in zip(*result["options"].values(), strict=True):
        first = rows[0]
        mark = " *" if first["components"] == result["basis"]["components"] else ""
        figures = [figure for row in rows for figure in _size(row)]
        table.add_row(f"{first['components']}{mark}", f"{first['bytes']:,}", f"{first['ratio']:.0%}", *figures)
    return table


def _size(row: SizeOption) -> tuple[str, str, str]:
    return f"{row['error_mean']:.3f}", _percent(row["accuracy"]), _percent(row["agreement"])


def _bytes(result: Result) -> Table:
    basis = result["basis"]
    title = f"Stored in {basis['ref']}: {basis['components']} components, gauge {basis['gauge']}, {basis['dtype']}"
    table = _table(title, "adapter", "bytes", "bits/param", "export", "stored bytes", "bits/param", "ΔW error")
    for row in result["adapters"]:
        exact = "bit for bit" if row["exact"] else "DIFFERS"
        before = (f"{row['bytes']:,}", f"{row['bits_per_parameter']:.2f}")
        after = (f"{row['stored_bytes']:,}", f"{row['stored_bits_per_parameter']:.2f}")
        table.add_row(row["name"], *before, exact, *after, f"{row['error']:.3f}")
    table.add_section()
    table.add_row("all", *_totals(result))
    return table


def _totals(result: Result) -> list[str]:
    rows, basis = result["adapters"], result["basis"]
    parameters = sum(row["parameters"] for row in rows)
    before, after = sum(row["bytes"] for row in rows), basis["bytes"] + basis["members_bytes"]
    bits = [f"{8 * size / parameters:.2f}" for size in (before, after)]
    return [f"{before:,}", bits[0], "", f"{after:,}", bits[1], f"{basis['error_mean']:.3f}"]


def _coded(result: Result) -> Table:
    title = "Every adapter coded on its own: adapterbank encode --quality (means)"
    table = _table(title, "quality", "bytes", "of originals", "bits/param", "ΔW error", "accuracy %", "same %")
    for row in result["coded"]:
        size = (f"{row['bytes']:,}", f"{row['ratio']:.1%}", f"{row['bits_per_parameter']:.3f}", f"{row['error_mean']:.3f}")
        table.add_row(row["quality"], *size, _percent(row["accuracy"]), _percent(row["agreement"]))
    return table


def _answers(result: Result) -> Table:
    accuracy, agreement = result["mean_accuracy"] or {}, result["mean_agreement"] or {}
    title = "Accuracy in %, and in brackets the share of sentences answered as with the original"
    table = _table(title, "adapter", "sentences", *(kind.replace("_", " ") for kind in accuracy))
    for row in result["adapters"]:
        table.add_row(row["name"], str(row["sentences"]), *_shares(row["accuracy"] or {}, row["agreement"] or {}))
    table.add_section()
    table.add_row("mean", str(_sentences(result["adapters"])), *_shares(accuracy, agreement))
    return table


def _shares(accuracy: dict[str, float], agreement: dict[str, float]) -> list[str]:
    return [
        _percent(share) + (f" ({_percent(agreement[kind])})" if kind in agreement else "") for kind, share in accuracy.items()
    ]


def _sentences(rows: list[AdapterFigures]) -> int:
    return sum(row["sentences"] for row in rows)


def _merges(merges: list[MergeFigures]) -> Table:
    table = _table("Merges of all into one adapter", "merge", "method", "options", "rank", "residual of the cut", "bytes")
    for row in merges:
        options = ", ".join(f"{key}={value:g}" for key, value in row["options"].items())
        table.add_row(row["ref"], row["method"], options, str(row["rank"]), f"{row['residual']:.3f}", f"{row['bytes']:,}")
    return table
