"""Pictures of aliases and base models."""

from __future__ import annotations

from rich.console import RenderableType

from adapterbank.report.grid import Column, Row, grid, line
from adapterbank.report.words import several

_ALIASES = (
    Column("name", "name", style="cyan"),
    Column("alias", "alias", style="green"),
    Column("version", "version", right=True),
)
_BASE_MODELS = (
    Column("base model", "name", style="cyan"),
    Column("aliases", "aliases", several, style="green"),
    Column("fingerprint", "fingerprint"),
    Column("quantization", "quantization"),
)


def aliases(document: Row) -> RenderableType:
    """A row per alias."""
    return grid(_ALIASES, document["aliases"], "no aliases")


def alias_removal(document: Row) -> RenderableType:
    """An alias removed, or to be removed."""
    verb = "would remove" if document["dry_run"] else "removed"
    return line(f"{verb} {document['name']}@{document['alias']} (version {document['version']})")


def base_models(document: Row) -> RenderableType:
    """A row per base model."""
    return grid(_BASE_MODELS, document["base_models"], "no base models")


def base_model(document: Row) -> RenderableType:
    """One base model."""
    return grid(_BASE_MODELS, [document], "")
