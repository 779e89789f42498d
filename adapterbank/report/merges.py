"""Pictures of merges and methods."""

from __future__ import annotations

from rich.console import Group, RenderableType

from adapterbank.report.adapters import exported
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.held_out import held_out
from adapterbank.report.words import error, pairs, several, short, size

_METHODS = (
    Column("method", "name", style="cyan", whole=True),
    Column("kind", "kind"),
    Column("needs", "needs", several),
    Column("what it does", "summary"),
    Column("options", "options", lambda options: pairs({option["name"]: option["default"] for option in options})),
    Column("formula", "formula"),
    Column("source", "source"),
)
_PREPARATIONS = (
    Column("prepare", "name", style="cyan", whole=True),
    Column("what it does", "summary"),
    Column("options", "options", lambda options: pairs({option["name"]: option["default"] for option in options})),
    Column("formula", "formula"),
    Column("source", "source"),
)


def merged(document: Row) -> RenderableType:
    """A merge, registered."""
    version = document["version"]
    head = f"{document['ref']}  {document['status']}  rank {document['rank']}, {size(version['bytes'])}"
    parts: list[RenderableType] = [line(f"{head}, residual {error(document['residual'])}")]
    told = {key: value for key, value in document["report"].items() if not isinstance(value, dict)}
    told |= {"used": several(document["artefacts"])} if document["artefacts"] else {}
    parts += [facts([Column(key, key) for key in told], told)] if told else []
    return Group(*parts, *held_out(document["held_out"]))


def methods(document: Row) -> RenderableType:
    """A row per merge method, then one per preparation."""
    parts = grid(_PREPARATIONS, document["preparations"], "")
    return Group(
        grid(_METHODS, document["methods"], "no methods"), *(titled("Preparations", parts) if document["preparations"] else [])
    )


def recipe_text(document: Row) -> RenderableType:
    """The text of the file."""
    return Group(*(line(text) for text in document["text"].splitlines()))


def recipe_written(document: Row) -> RenderableType:
    """A recipe written."""
    return line(f"{document['ref']} -> {document['path']}  recipe {short(document['digest'])}")


def replay(document: Row) -> RenderableType:
    """A merge done again."""
    head = line(f"{document['ref']}: {document['outcome']} (difference {error(document['difference'])})")
    rows = [{"what": key, "was": values[0], "is": values[1]} for key, values in document["changed"].items()]
    columns = (Column("what", "what"), Column("was", "was"), Column("is", "is"))
    return Group(head, *(titled("Changed", grid(columns, rows, "")) if rows else []))


def reverted(document: Row) -> RenderableType:
    """The constituents written, one line each."""
    return Group(*(exported(constituent) for constituent in document["constituents"]))
