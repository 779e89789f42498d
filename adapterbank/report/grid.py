"""Two shapes for everything: a grid of rows under headings, and a list of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import JustifyMethod, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from adapterbank.report.words import safe

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, the key of the row's document, and how its value is written."""

    heading: str
    key: str
    write: Callable[[Any], str] = safe
    right: bool = False
    style: str = ""
    whole: bool = False  # never broken over lines; numbers never are
    cut: bool = False  # ended by an ellipsis where the terminal is narrow, not broken

    def cell(self, row: Row) -> Text:
        value = row[self.key]
        return Text("" if value is None else self.write(value), style=self.style)


def grid(columns: Sequence[Column], rows: Iterable[Row], empty: str) -> RenderableType:
    """The rows under their headings, without columns that are empty in all of them; the line ``empty`` without rows."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    if not cells:
        return Text(empty, style="dim")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    shown = [i for i in range(len(columns)) if any(line[i].plain for line in cells)]
    for column in (columns[i] for i in shown):
        justify: JustifyMethod = "right" if column.right else "left"
        overflow: OverflowMethod = "ellipsis" if column.cut else "fold"
        least = max(map(len, column.heading.split()))  # a heading is broken between its words only
        table.add_column(
            column.heading, justify=justify, overflow=overflow, no_wrap=column.right or column.whole, min_width=least
        )
    for line in cells:
        table.add_row(*(line[i] for i in shown))
    return table


def facts(columns: Sequence[Column], row: Row) -> RenderableType:
    """One line per column that has something to say: heading, value."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for column in columns:
        cell = column.cell(row)
        if cell.plain:
            table.add_row(column.heading, cell)
    return table


def titled(title: str, body: RenderableType) -> list[RenderableType]:
    """A heading over a picture, with a blank line before it."""
    return [Text(), Text(title, style="bold"), body]


def line(text: str, style: str = "") -> Text:
    """One line of text, escaped."""
    return Text(safe(text), style=style)
