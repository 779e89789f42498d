"""Pictures of directories for inference servers."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from adapterbank.report.grid import Column, Row, grid, line
from adapterbank.report.words import error, size

_DIRECTORIES = (
    Column("version", "ref", style="cyan", whole=True),
    Column("directory", "path", whole=True),
    Column("state", "status"),
    Column("rank", "rank", right=True),
    Column("dtype", "dtype"),
    Column("size", "bytes", size, right=True),
    Column("error", "error", error, right=True),
)


def materialized(document: Row) -> RenderableType:
    """A row per directory."""
    return grid(_DIRECTORIES, document["directories"], "no directories")


def launch_flags(document: Row) -> RenderableType:
    """The line to type, as one that can be copied."""
    return Text(document["line"], no_wrap=True, overflow="ignore")


def loaded(document: Row) -> RenderableType:
    """What was loaded where."""
    return line(f"{document['name']} is loaded in {document['server']} from {document['path']}")
