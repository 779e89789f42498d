"""Pictures of stored forms and their modules."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType

from adapterbank.report.grid import Column, Row, grid, titled
from adapterbank.report.words import error, figure, several, share, size

VERSION = Column("version", "version", style="cyan", whole=True)
KIND = Column("kind", "error_kind")
_FORMS = (
    VERSION,
    Column("basis", "basis", style="cyan", whole=True),
    Column("codec", "codec", whole=True),
    Column("coded against", "references", several, whole=True),
    Column("size", "bytes", size, right=True),
    Column("bits", "bits", figure, right=True),
    Column("error", "error", error, right=True),
    KIND,
)
_MODULES = (
    Column("module", "name"),
    Column("predicted from", "predict"),
    Column("rank", "rank", right=True),
    Column("stored", "live", right=True),
    Column("size", "bytes", lambda count: size(round(count)), right=True),
    Column("error", "error", error, right=True),
)
_ENCODED = (
    Column("version", "ref", style="cyan", whole=True),
    Column("codec", "codec", whole=True),
    Column("form", "status"),
    Column("bits per parameter", "bits", figure, right=True),
    Column("size", "bytes", size, right=True),
    Column("of original", "ratio", share, right=True),
    Column("error", "error", error, right=True),
    Column("seconds", "seconds", figure, right=True),
)


def forms(rows: Iterable[Row]) -> RenderableType:
    """A row per stored form."""
    return grid(_FORMS, rows, "no stored forms")


def modules(rows: Iterable[Row]) -> list[RenderableType]:
    """For each form that tells them, how it stores every module."""
    parts: list[RenderableType] = []
    for form in rows:
        if form["modules"] is not None:
            absent = [
                dict.fromkeys(("predict", "rank", "live", "bytes", "error")) | {"name": f"{name} (absent)"}
                for name in form["absent"]
            ]
            title = f"{form['version']} in {form['basis']}" if form["basis"] else f"{form['version']}, {form['codec']} alone"
            parts += titled(title, grid(_MODULES, [*form["modules"], *absent], "no modules"))
    return parts


def encodings(document: Row) -> RenderableType:
    """A row per version that was coded on its own."""
    return grid(_ENCODED, document["encoded"], "nothing was coded")
