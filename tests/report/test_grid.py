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


def test_columns_without_a_word_are_left_out():
    assert lines(grid(COLUMNS, [{"name": None, "count": 1}, {"name": "", "count": 2}], "none")) == ["count", "    1", "    2"]


def test_what_is_whole_is_never_broken():
    columns = (Column("ref", "ref", whole=True), Column("note", "note"))
    console = Console(file=io.StringIO(), width=30)
    console.print(grid(columns, [{"ref": "credit_cards@1", "note": "a long note that is broken"}], "none"))
    assert "credit_cards@1" in console.file.getvalue()


def narrow(picture: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_what_is_cut_stays_on_one_line():
    columns = (Column("ref", "ref", whole=True), Column("base model", "base", cut=True))
    (*_, row) = drawn = narrow(grid(columns, [{"ref": "sql@1", "base": "somebody/" + "x" * 90}], "none"), 30)
    assert len(drawn) == 2 and row.startswith("sql@1  somebody/x") and "…" in row


def test_a_word_of_a_heading_is_never_broken():
    columns = (Column("note", "note"), Column("metrics", "metrics"))
    assert "metrics" in narrow(grid(columns, [{"note": "word " * 40, "metrics": "f=1"}], "none"), 24)[0]


def test_an_empty_grid_says_so():
    assert lines(grid(COLUMNS, [], "no rows")) == ["no rows"]


def test_facts_leave_out_what_is_empty():
    assert lines(facts(COLUMNS, {"name": None, "count": 3})) == ["count  3"]
