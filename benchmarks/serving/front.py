"""Which forms are worth having: none is better than they are in error, in time and in bytes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
COUNT, RANK = "1000", 16


@dataclass(frozen=True, slots=True)
class Point:
    """A form: error in ΔW, milliseconds of a write, bytes an adapter when so many are resident."""

    form: str
    error: float
    ms: float
    each: float

    def beats(self, other: Point) -> bool:
        mine, its = (self.error, self.ms, self.each), (other.error, other.ms, other.each)
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))


def points(rows: Sequence[Row]) -> list[Point]:
    """The forms of the first Llama at rank 16 whose error was measured too."""
    errors = {row["form"]: row["error"] for row in rows if row["case"] == "error"}
    switched = [row for row in rows if row["case"] == "switch" and row["rank"] == RANK and row["form"] in errors]
    first = switched[0]["llama"] if switched else None
    return [
        Point(row["form"], errors[row["form"]], 1e3 * row["seconds"].median, row["resident_bytes"][COUNT] / int(COUNT))
        for row in switched
        if row["llama"] == first
    ]


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no other beats, by error."""
    return sorted((one for one in found if not any(other.beats(one) for other in found)), key=lambda point: point.error)


def sentence(rows: Sequence[Row]) -> str:
    """The front in words; nothing without both measurements."""
    chosen = front(points(rows))
    told = "; ".join(f"`{one.form}` ({one.error:.3f}, {one.ms:.3g} ms, {one.each / 1e6:.3g} MB)" for one in chosen)
    return f"Not beaten in error, time and bytes at once: {told}." if chosen else ""


def draw(rows: Sequence[Row], folder: Path, device: str) -> None:
    """``serving-front-DEVICE.png``: bytes an adapter against error, time in words; the front is a line."""
    found = points(rows)
    if not found:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    best = front(found)
    axes.plot([one.each / 1e6 for one in best], [one.error for one in best], color="tab:blue", linewidth=1, alpha=0.5)
    for one in found:
        color = "tab:blue" if one in best else "tab:gray"
        axes.scatter(one.each / 1e6, one.error, color=color, s=16)
        label = f"{one.form}, {one.ms:.2g} ms"
        axes.annotate(label, (one.each / 1e6, one.error), textcoords="offset points", xytext=(5, 3), fontsize=7, color=color)
    axes.set(xscale="log", yscale="log", xlabel="resident MB an adapter, of 1,000", ylabel="error, relative in ΔW")
    axes.set_title(f"Llama 1B, rank 16, {device}: blue is not beaten in error, time and bytes at once", fontsize=9)
    figure.savefig(folder / f"serving-front-{device}.png", dpi=120)
