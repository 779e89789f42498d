"""Documents about versions."""

from __future__ import annotations

from typing import TypedDict

from adapterbank.cli.documents.recipes import RecipeDocument
from adapterbank.cli.documents.shared import MemberDetailDocument, ProblemDocument


class VersionDocument(TypedDict):
    """A version; ``id`` is its integer id for serving engines, ``level`` is ``original``, ``exact`` or ``bounded``."""

    ref: str
    id: int
    name: str
    number: int
    base_model: str
    kind: str
    level: str
    dtype: str
    rank: int
    alpha: float
    rslora: bool
    target_modules: list[str]
    modules: int
    parameters: int
    bytes: int
    created: str
    parent: str | None
    note: str | None
    tags: dict[str, str]
    metrics: dict[str, float]
    aliases: list[str]
    files: str
    content: str
    method: str | None


class ModuleDocument(TypedDict):
    """A module of a version."""

    name: str
    d_out: int
    d_in: int
    rank: int
    kind: str


class DependentDocument(TypedDict):
    """Something that needs something else."""

    dependent: str
    needed: str
    kind: str


class ShowDocument(VersionDocument):
    """A version with its modules, recipe, stored forms and dependents.

    ``carried`` are tensors that are no LoRA factors, kept verbatim; ``obstacle`` says why no basis and no merge takes it.
    """

    shapes: list[ModuleDocument]
    carried: list[str]
    obstacle: str | None
    recipe: RecipeDocument | None
    forms: list[MemberDetailDocument]
    dependents: list[DependentDocument]


class VersionsDocument(TypedDict):
    """Versions."""

    versions: list[VersionDocument]


class RegisteredDocument(TypedDict):
    """One directory registered; ``status`` is ``registered``, ``unchanged`` or ``restored`` (its exact bytes are back)."""

    ref: str
    status: str
    warnings: list[ProblemDocument]
    not_kept: list[str]
    version: VersionDocument


class OutcomeDocument(TypedDict):
    """One directory of a bulk registration; ``code`` and ``message`` are set if it was refused."""

    path: str
    name: str
    status: str
    ref: str | None
    code: str | None
    message: str | None


class BulkDocument(TypedDict):
    """Several directories registered: counts by status, then every outcome."""

    registered: int
    unchanged: int
    restored: int
    refused: int
    outcomes: list[OutcomeDocument]


class EventDocument(TypedDict):
    """A move of an alias; no ``old``: it was new, no ``new``: it was removed."""

    alias: str
    old: int | None
    new: int | None
    created: str


class HistoryDocument(TypedDict):
    """All versions of a name, oldest first, and the moves of its aliases."""

    name: str
    versions: list[VersionDocument]
    events: list[EventDocument]


class ExportedDocument(TypedDict):
    """A directory written; ``error`` is null where the bytes are exact."""

    ref: str
    path: str
    exact: bool
    error: float | None
    bytes: int
