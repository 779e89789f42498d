"""The tables for ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving import front

Row = Mapping[str, Any]


def tables(rows: Sequence[Row], device: str) -> dict[str, str]:
    """By the names of their places in the document."""
    return {
        f"serving switch {device}": _switch(rows),
        f"serving mixed {device}": _mixed([row for row in rows if row["case"] == "mixed"]),
        f"serving load {device}": _load({row["case"]: row for row in rows if row["case"] in ("zipf", "growth")}),
        f"serving cold {device}": _cold([row for row in rows if row["case"] == "cold"]),
        f"serving front {device}": front.sentence(rows),
    }


def _switch(rows: Sequence[Row]) -> str:
    errors = {row["form"]: row["error"] for row in rows if row["case"] == "error"}
    head = "| Llama | rank | form | ms | of copy | bits a parameter | for 100 | for 1,000 | for 10,000 | ΔW error |"
    lines = [head, "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        if row["case"] == "switch":
            error = f"{errors[row['form']]:.3f}" if row["form"] in errors else ""
            case = f"{row['llama']} | {row['rank']} | {row['form']} | {1e3 * row['seconds'].median:.3g}"
            lines.append(f"| {case} | {_rest(row)} | {error} |")
    return "\n".join(lines)


def _rest(row: Row) -> str:
    if "of_copy" not in row:
        return " | | | |"
    held = " | ".join(f"{count / 1e9:.3g} GB" for count in row["resident_bytes"].values())
    return f"{row['of_copy'].median:.2f} | {row['bits_per_parameter']:.2f} | {held}"


def _mixed(rows: Sequence[Row]) -> str:
    lines = ["| adapters | `apply`, ms | PEFT's mixed batch | writing each |", "|---:|---:|---:|---:|"]
    for row in rows:
        times = f"{row['peft_over_apply'].median:.2f}× | {row['write_each_over_apply'].median:.2f}×"
        lines.append(f"| {row['adapters']} | {1e3 * row['apply_seconds'].median:.3g} | {times} |")
    return "\n".join(lines)


def _load(rows: Mapping[str, Row]) -> str:
    if not {"zipf", "growth"} <= set(rows):
        return ""
    zipf, growth = rows["zipf"], rows["growth"]
    return "\n".join([
        "| what | measured |", "|---|---:|",
        f"| {zipf['adapters']:,} adapters, Zipf, {zipf['threads']} threads: p50 | {1e3 * zipf['p50_seconds']:.3g} ms |",
        f"| the same: p99 | {1e3 * zipf['p99_seconds']:.3g} ms |",
        f"| the same: hits, where {zipf['share_that_fits']:.0%} of the adapters fit | {zipf['hit_rate']:.1%} |",
        f"| memory that {growth['switches']:,} switches added | {growth['grown_bytes'] / 1e6:.1f} MB |",
    ])  # fmt: skip


def _cold(rows: Sequence[Row]) -> str:
    lines = ["| way | the whole process, s | of it imports | opening the bank | the first adapter | one more |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        times = (f"{row['seconds'][key]:.2g}" for key in ("process", "import", "open", "first", "again"))
        lines.append(f"| {row['way']} | {' | '.join(times)} |")
    return "\n".join(lines)
