"""Pictures of what was learned, judged on data that it did not see."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from adapterbank.report.grid import Column, Row, grid, titled
from adapterbank.report.words import safe


def _figure(value: float | None) -> str:
    """Four digits: objectives move little."""
    return "–" if value is None else f"{value:.4g}"


_MEASURED = (
    Column("figure", "objective", style="cyan", whole=True),
    Column("rank", "rank", right=True),
    Column("before", "before", _figure, right=True),
    Column("after", "after", _figure, right=True),
    Column("verdict", "verdict"),
)


def held_out(document: Row | None) -> list[RenderableType]:
    """A row per figure, own ones marked, then one per point; nothing for None."""
    if document is None:
        return []
    rows = [{**row, "rank": row["rank"] or "not cut", "verdict": _verdict(row)} for row in document["measured"]]
    title = f"Held out: {document['examples']} examples that nothing was learned from; before: {safe(document['start'])}"
    return [*titled(title, grid(_MEASURED, rows, "")), *_points(document["points"])]


def _verdict(row: Row) -> str:
    """Which way the method's own figure went; others are only told."""
    if not row["own"] or row["before"] is None or row["after"] is None:
        return ""
    if row["after"] == row["before"]:
        return "the same"
    return "better" if (row["after"] > row["before"]) == row["larger_is_better"] else "WORSE"


def _points(points: list[Row]) -> list[RenderableType]:
    if not points:
        return []
    names = list(points[0]["tasks"])
    columns = [Column("point", "number", right=True), Column("mean", "value", _figure, right=True)]
    columns += [Column(name, name, _figure, right=True) for name in names]
    columns += [Column("verdict", "verdict")]
    rows: list[dict[str, Any]] = [
        {**point["tasks"], "number": point["number"], "value": point["value"], "verdict": _said(point)} for point in points
    ]
    best = sum(point["non_dominated"] for point in points)
    return titled(f"Points: {best} of {len(points)} non-dominated", grid(columns, rows, ""))


def _said(point: Row) -> str:
    return "non-dominated" if point["non_dominated"] else "DOMINATED"
