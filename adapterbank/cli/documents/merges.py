"""Documents about merges."""

from __future__ import annotations

from typing import Any, TypedDict

from adapterbank.cli.documents.adapters import ExportedDocument, VersionDocument
from adapterbank.cli.documents.shared import ProblemDocument


class MergedDocument(TypedDict):
    """A merge; ``residual`` is what the cut to ``rank`` lost, relative in ΔW; ``report`` is the method's own."""

    ref: str
    status: str
    residual: float
    rank: int
    report: dict[str, Any]
    warnings: list[ProblemDocument]
    version: VersionDocument


class MethodOptionDocument(TypedDict):
    """An option of a merge method."""

    name: str
    default: Any
    expected: str
    help: str


class MethodDocument(TypedDict):
    """A merge method; ``laws`` are those that it keeps."""

    name: str
    kind: str
    summary: str
    formula: str
    source: str
    laws: list[str]
    options: list[MethodOptionDocument]


class MethodsDocument(TypedDict):
    """Merge methods."""

    methods: list[MethodDocument]


class ReplayDocument(TypedDict):
    """A merge done again; ``outcome`` is ``bits``, ``within 3e-7`` or ``differs``, ``changed`` the environment's changes."""

    ref: str
    outcome: str
    difference: float | None
    changed: dict[str, Any]


class RevertedDocument(TypedDict):
    """The constituents of a merge, written."""

    ref: str
    constituents: list[ExportedDocument]
