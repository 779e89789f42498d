"""The demo's tables."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from adapterbank.demo.measure import NO_ADAPTER, ORIGINAL, RECONSTRUCTED
from adapterbank.demo.result import AdapterFigures, MergeFigures, Result

_SHORT = {ORIGINAL: "original", RECONSTRUCTED: "rebuilt", "task_arithmetic": "task arith.", NO_ADAPTER: "none"}


def picture(result: Result) -> RenderableType:
    """Sizes that the basis could have had, what became of each adapter, what it answers, and the merges."""
    parts: list[RenderableType] = [_sizes(result), _bytes(result), _merges(result["merges"])]
    parts.insert(2, _answers(result) if result["mean_accuracy"] else f"No accuracies: {result['not_measured']}\n")
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _sizes(result: Result) -> Table:
    """One line for each number of components; the errors in every gauge beside each other (equal bytes)."""
    gauges = list(result["options"])
    errors = [f"{which} ΔW error, {gauge}" for gauge in gauges for which in ("mean", "worst")]
    table = _table(f"A basis of {len(result['adapters'])} adapters, by size", "components", "bytes", "of originals", *errors)
    for rows in zip(*result["options"].values(), strict=True):
        first, basis = rows[0], result["basis"]
        figures = [f"{error:.3f}" for row in rows for error in (row["error_mean"], row["error_worst"])]
        mark = " ←" if first["components"] == basis["components"] else ""
        table.add_row(f"{first['components']}{mark}", f"{first['bytes']:,}", f"{first['ratio']:.0%}", *figures)
    return table


def _bytes(result: Result) -> Table:
    basis = result["basis"]
    title = f"Stored in {basis['ref']}: {basis['components']} components, gauge {basis['gauge']}, {basis['dtype']}"
    columns = ("adapter", "bytes", "bits/param.", "export", "stored bytes", "stored bits/param.", "relative ΔW error")
    table = _table(title, *columns)
    for row in result["adapters"]:
        table.add_row(
            row["name"],
            f"{row['bytes']:,}",
            f"{row['bits_per_parameter']:.2f}",
            "bit for bit" if row["exact"] else "DIFFERS",
            f"{row['stored_bytes']:,}",
            f"{row['stored_bits_per_parameter']:.2f}",
            f"{row['error']:.3f}",
        )
    table.add_section()
    table.add_row("all", *_totals(result))
    return table


def _totals(result: Result) -> list[str]:
    rows, basis = result["adapters"], result["basis"]
    parameters = sum(row["parameters"] for row in rows)
    before, after = sum(row["bytes"] for row in rows), basis["bytes"] + basis["members_bytes"]
    bits = (f"{8 * size / parameters:.2f}" for size in (before, after))
    return [f"{before:,}", next(bits), "", f"{after:,}", next(bits), f"{basis['error_mean']:.3f}"]


def _answers(result: Result) -> Table:
    accuracy, agreement = result["mean_accuracy"] or {}, result["mean_agreement"] or {}
    columns = [f"acc. {_SHORT.get(kind, kind)}" for kind in accuracy] + [f"same {_SHORT.get(kind, kind)}" for kind in agreement]
    table = _table("Accuracy, and the share of sentences answered as with the original", "adapter", "sentences", *columns)
    for row in result["adapters"]:
        table.add_row(row["name"], str(row["sentences"]), *_shares(row))
    table.add_section()
    means = [*accuracy.values(), *agreement.values()]
    table.add_row("mean", str(sum(row["sentences"] for row in result["adapters"])), *(f"{share:.1%}" for share in means))
    return table


def _shares(row: AdapterFigures) -> list[str]:
    return [f"{share:.1%}" for share in (*(row["accuracy"] or {}).values(), *(row["agreement"] or {}).values())]


def _merges(merges: list[MergeFigures]) -> Table:
    table = _table("Merges of all adapters into one", "merge", "method", "options", "rank", "residual of the rank", "bytes")
    for row in merges:
        options = ", ".join(f"{key}={value:g}" for key, value in row["options"].items())
        table.add_row(row["ref"], row["method"], options, str(row["rank"]), f"{row['residual']:.3f}", f"{row['bytes']:,}")
    return table
