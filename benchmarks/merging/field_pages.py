"""The field's table as Markdown, and as a picture."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.merging.field import Row, Table
from benchmarks.merging.field_halves import standard_error
from benchmarks.merging.field_jobs import OFF, ORIGINALS

_HEAD = "| method | setting | rank | validation, % | test, % | gap closed | seconds |\n|---|---|---:|---:|---:|---:|---:|"
_PICTURE = "merging-field.png"
_NEAR = 1.5  # points


def table(found: Table) -> str:
    """All rows, best first."""
    return "\n".join([_HEAD, *(_line(found, row) for row in found.rows)])


def verdict(found: Table) -> str:
    """Which merge closes most of the gap, what lies near it, and how certain that is."""
    rows = [found.merges[0], next(row for row in found.merges if row.rank == min(r.rank for r in found.merges))]
    best, narrow = rows
    near = sum(best.test - row.test < _NEAR / 100 for row in found.merges) - 1
    error = 100 * standard_error(best.outcome.scores, found.source.test)
    words = [f"**{_named(best)}** closes most of the gap on the test half: {_share(found, best)}, {100 * best.test:.1f} %."]
    if narrow is not best:
        words.append(f"At rank {narrow.rank} it is **{_named(narrow)}**: {_share(found, narrow)}, {100 * narrow.test:.1f} %.")
    words.append(
        f"The standard error of a mean is {error:.1f} points; {near} other rows are within {_NEAR:g} points of the best."
    )
    average = next((row for row in found.merges if row.name == "average" and not row.prepared), None)
    if average is not None:
        below = ", ".join(f"`{row.name}`" for row in found.merges if row.test < average.test)
        words.append(f"The plain average gives {100 * average.test:.1f} %; below it: {below or 'none'}.")
    return "\n".join([*words, "", *(f"- `{name}` has no row: {why}." for name, why in found.without.items())])


def draw(found: Table, folder: Path) -> Path:
    """Test accuracy of every row as a bar, with its standard error; a line at no adapter and at the originals."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    plots: Any = import_module("matplotlib.pyplot")
    rows = list(reversed(found.rows))
    figure, axes = plots.subplots(figsize=(8.0, 1.2 + 0.21 * len(rows)), layout="constrained")
    errors = [100 * standard_error(row.outcome.scores, found.source.test) for row in rows]
    labels = [_title(row) for row in rows]
    colours = ["#7d8597" if not row.rank else "#c1121f" if row.rank <= 16 else "#e29578" for row in rows]
    axes.barh(range(len(rows)), [100 * row.test for row in rows], xerr=errors, color=colours, error_kw={"linewidth": 0.7})
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    for row in rows:
        if row.name in (OFF, ORIGINALS):
            axes.axvline(100 * row.test, color="#222222", linestyle=":", linewidth=1.0)
    axes.set(
        xlim=(60.0, 90.0),
        xlabel="mean accuracy over eight tasks, test half, % (± standard error)",
        ylim=(-0.7, len(rows) - 0.3),
    )
    axes.grid(True, axis="x", linewidth=0.3, alpha=0.6)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / _PICTURE, dpi=110, metadata={"Software": None})
    plots.close(figure)
    return folder / _PICTURE


def _line(found: Table, row: Row) -> str:
    name = (f"`{row.name}`" if row.rank else f"*{row.name}*") + _after(row)
    setting = row.setting if row.rank else _bytes(row)
    seconds = f"{row.outcome.seconds:.1f}" + (f" + {row.learning:.0f}" if row.learning else "") if row.rank else "–"
    shares = f"{100 * mean(row.validation.values()):.1f} | {100 * row.test:.1f} | {_share(found, row)}"
    return f"| {name} | {setting} | {row.rank or '–'} | {shares} | {seconds} |"


def _bytes(row: Row) -> str:
    return f"all adapters kept, {row.outcome.size / 1e6:.2f} MB" if row.outcome.size else "heads alone"


def _share(found: Table, row: Row) -> str:
    return f"{100 * found.closed(row):.0f} %"


def _named(row: Row) -> str:
    return f"`{row.name}`{_after(row)} ({row.setting}) at rank {row.rank}"


def _after(row: Row) -> str:
    return f" after {row.prepared}" if row.prepared else ""


def _title(row: Row) -> str:
    return f"{row.name}{_after(row)}, rank {row.rank}" if row.rank else row.name
