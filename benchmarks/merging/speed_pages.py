"""The tables of what merging costs, for ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """By the names of their places in the document."""
    growing = [row for row in rows if row["case"] in ("by count", "by side")]
    return {
        "merging speed": _beside([row for row in rows if row["case"] == "against peft"]),
        "merging growth": _growth(growing),
    }


def _beside(rows: Sequence[Row]) -> str:
    head = (
        "| `combination_type` | adapters | ours, s | PEFT, s | times as fast | ours, MiB | PEFT, MiB | of the least residual |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        times = f"{row['seconds'].median:.3g} | {row['peft_seconds']:.3g} | {row['faster']:.3g}"
        over = f"{row['over_least']:.4f}" if "over_least" in row else ""
        memory = f"{row['peak_mib']:.0f} | {row['peft_peak_mib']:.0f}"
        lines.append(f"| `{row['way']}` | {row['count']} | {times} | {memory} | {over} |")
    return "\n".join(lines)


def _growth(rows: Sequence[Row]) -> str:
    """A line for each number of adapters and each size, with both ways."""
    cases = dict.fromkeys((row["count"], row["side"]) for row in rows)
    ways = list(dict.fromkeys(row["way"] for row in rows))
    found = {
        (row["way"], row["count"], row["side"]): f"{row['seconds'].median:.3g} s, {row['peak_mib']:.0f} MiB" for row in rows
    }
    lines = [f"| adapters | module | {' | '.join(f'`{way}`' for way in ways)} |", f"|---:|---:|{'---:|' * len(ways)}"]
    for count, side in cases:
        lines.append(f"| {count} | {side}×{side} | {' | '.join(found.get((way, count, side), '') for way in ways)} |")
    return "\n".join(lines)
