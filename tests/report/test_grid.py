"""Grids and facts: aligned, whole, and never interpreting what they show."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from adapterbank.report.grid import Column, facts, grid

COLUMNS = (Column("name", "name"), Column("count", "count", right=True))
ROWS = [{"name": "[bold]a[/bold]", "count": 7}, {"name": "b" * 300, "count": 12345}]


def lines(picture: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=1000)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_grid_aligns_its_columns():
    head, first, second = lines(grid(COLUMNS, ROWS, "none"))
    assert head.split() == ["name", "count"]
    assert first.split() == ["[bold]a[/bold]", "7"]
    assert second.split() == ["b" * 300, "12345"]
    assert len(head) == len(first) == len(second)


def test_an_empty_grid_says_so():
    assert lines(grid(COLUMNS, [], "no rows")) == ["no rows"]


def test_facts_leave_out_what_is_empty():
    assert lines(facts(COLUMNS, {"name": None, "count": 3})) == ["count  3"]
