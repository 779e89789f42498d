"""Documents about merges."""

from __future__ import annotations

from typing import Any, TypedDict

from adapterbank.cli.documents.adapters import ExportedDocument, VersionDocument
from adapterbank.cli.documents.held_out import HeldOutDocument
from adapterbank.cli.documents.shared import ProblemDocument


class MergedDocument(TypedDict):
    """A merge; ``residual`` is what the cut to ``rank`` lost, relative in ΔW; ``report`` is the method's own, ``artefacts``
    what it used beside the adapters; ``held_out`` judges what was learned by ``--with``."""

    ref: str
    status: str
    residual: float
    rank: int
    report: dict[str, Any]
    artefacts: list[str]
    held_out: HeldOutDocument | None
    warnings: list[ProblemDocument]
    version: VersionDocument


class MethodOptionDocument(TypedDict):
    """An option of a merge method."""

    name: str
    default: Any
    expected: str
    help: str


class MethodDocument(TypedDict):
    """A merge method; ``laws`` are those that it keeps, ``needs`` what it takes beside adapters and weights."""

    name: str
    kind: str
    summary: str
    formula: str
    source: str
    needs: list[str]
    laws: list[str]
    options: list[MethodOptionDocument]


class PreparationDocument(TypedDict):
    """What can be done to the adapters before any method (``--prepare``)."""

    name: str
    summary: str
    formula: str
    source: str
    options: list[MethodOptionDocument]


class MethodsDocument(TypedDict):
    """Merge methods, and what can be done before them."""

    methods: list[MethodDocument]
    preparations: list[PreparationDocument]


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
