"""Documents about aliases and base models."""

from __future__ import annotations

from typing import TypedDict


class AliasDocument(TypedDict):
    """An alias."""

    name: str
    alias: str
    version: int


class AliasesDocument(TypedDict):
    """Aliases."""

    aliases: list[AliasDocument]


class AliasRemovalDocument(AliasDocument):
    """An alias that was, or with ``dry_run`` would be, removed."""

    dry_run: bool


class BaseModelDocument(TypedDict):
    """A base model."""

    name: str
    aliases: list[str]
    fingerprint: str | None
    quantization: str | None
    created: str


class BaseModelsDocument(TypedDict):
    """Base models."""

    base_models: list[BaseModelDocument]
