"""Parts of several documents."""

from __future__ import annotations

from typing import TypedDict


class ProblemDocument(TypedDict):
    """A finding."""

    code: str
    message: str
    where: str | None
    severity: str


class FormModuleDocument(TypedDict):
    """A module in a stored form: what it is predicted from, its rank, the components that are stored, its bytes (shares of what
    modules have in common included), and its error (null: not measured)."""

    name: str
    predict: str
    rank: int
    live: int
    bytes: float
    error: float | None


class MemberDocument(TypedDict):
    """A version's stored form: in a ``basis``, or on its own (null); ``references`` are the versions it was coded against;
    ``bits`` are per LoRA parameter, of its own object."""

    version: str
    basis: str | None
    codec: str
    references: list[str]
    bytes: int
    bits: float
    error: float | None
    error_kind: str


class MemberDetailDocument(MemberDocument):
    """A stored form with the error of every module; ``absent`` are the modules of the basis that the adapter lacks;
    ``modules`` are null unless --modules."""

    absent: list[str]
    module_errors: dict[str, float | None]
    modules: list[FormModuleDocument] | None
