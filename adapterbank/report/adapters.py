"""Pictures of versions, their names and their history."""

from __future__ import annotations

from rich.console import Group, RenderableType

from adapterbank.report import forms
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.words import error, gist, pairs, safe, several, short, size, when

_REF = Column("ref", "ref", style="cyan", whole=True)
_VERSIONS = (
    _REF,
    Column("aliases", "aliases", several, style="green"),
    Column("base model", "base_model", cut=True),
    Column("rank", "rank", right=True),
    Column("size", "bytes", size, right=True),
    Column("level", "level", whole=True),
    Column("tags", "tags", pairs),
    Column("metrics", "metrics", pairs),
    Column("created", "created", when, whole=True),
)
_FACTS = (
    *_VERSIONS[:3],
    Column("kind", "kind"),
    Column("dtype", "dtype"),
    Column("rank", "rank"),
    Column("alpha", "alpha"),
    Column("rsLoRA", "rslora", lambda value: "yes" if value else ""),
    Column("targets", "target_modules", several),
    Column("modules", "modules"),
    Column("parameters", "parameters", lambda count: f"{count:,}"),
    Column("size", "bytes", size),
    Column("level", "level"),
    Column("carried", "carried", several),
    Column("obstacle", "obstacle", style="yellow"),
    Column("parent", "parent"),
    Column("method", "method"),
    Column("tags", "tags", pairs),
    Column("metrics", "metrics", pairs),
    Column("note", "note"),
    Column("created", "created", when),
    Column("id", "id"),
    Column("files", "files", short),
    Column("content", "content", short),
)
_RECIPE = (
    Column("method", "method"),
    Column("options", "options", pairs),
    Column("rank", "rank", lambda rank: pairs(rank) if isinstance(rank, dict) else safe(rank)),
    Column("absent modules", "absent"),
    Column("prepared by", "prepare", lambda steps: ", ".join(safe(step["name"]) for step in steps)),
    Column("weights by module", "schedules", lambda rules: ", ".join(pairs(rule) for rule in rules)),
    Column("used", "artefacts", lambda used: ", ".join(f"{safe(label)} ({short(d)})" for d, label in used.items())),
    Column("seed", "seed"),
    Column("residual", "residual", error),
)
_INPUTS = (Column("input", "ref", style="cyan"), Column("weight", "weight", right=True), Column("content", "digest", short))
_DEPENDENTS = (Column("dependent", "dependent", style="cyan"), Column("why", "kind"), Column("needs", "needed"))
_EVENTS = (
    Column("alias", "alias", style="green"),
    Column("from", "old", right=True),
    Column("to", "new", right=True),
    Column("when", "created", when),
)
_STATUSES = ("registered", "unchanged", "restored", "refused")
_OUTCOMES = (
    Column("path", "path"),
    Column("name", "name"),
    Column("status", "status"),
    Column("ref", "ref", style="cyan"),
    Column("code", "code", style="red"),
    Column("message", "message", gist),
)


def versions(document: Row) -> RenderableType:
    """A row per version."""
    return grid(_VERSIONS, document["versions"], "no versions")


def version(document: Row) -> RenderableType:
    """One version: facts, recipe, stored forms, dependents."""
    parts: list[RenderableType] = [facts(_FACTS, document)]
    if document["recipe"] is not None:
        parts += titled("Recipe", recipe(document["recipe"]))
    if document["forms"]:
        parts += titled("Stored forms", forms.forms(document["forms"]))
    if document["dependents"]:
        parts += titled("Needed by", grid(_DEPENDENTS, document["dependents"], ""))
    parts += forms.modules(document["forms"])
    return Group(*parts)


def recipe(document: Row) -> RenderableType:
    """How a merge was made: the method and its options, then the inputs."""
    return Group(facts(_RECIPE, document), grid(_INPUTS, document["inputs"], "no inputs"))


def label(document: Row) -> RenderableType:
    """The labels of a version."""
    keys = ("ref", "tags", "metrics", "note")
    return facts([column for column in _FACTS if column.key in keys], document)


def registered(document: Row) -> RenderableType:
    """One directory registered."""
    return line(f"{document['ref']}  {document['status']}  {short(document['version']['files'])}")


def outcomes(document: Row) -> RenderableType:
    """A bulk registration: what was refused and why, then the counts."""
    counts = line("  ".join(f"{key}: {document[key]}" for key in _STATUSES), "bold")
    return Group(grid(_OUTCOMES, document["outcomes"], "no adapters"), counts)


def history(document: Row) -> RenderableType:
    """All versions of a name, then its aliases' moves."""
    moves = titled("Aliases", grid(_EVENTS, document["events"], "")) if document["events"] else []
    return Group(versions(document), *moves)


def event(document: Row) -> RenderableType:
    """One move of an alias."""
    return grid(_EVENTS, [document], "")


def exported(document: Row) -> RenderableType:
    """A directory written."""
    said = "exact" if document["exact"] else f"approximation, error {error(document['error'])}"
    return line(f"{document['ref']} -> {document['path']}  {size(document['bytes'])}, {said}")
