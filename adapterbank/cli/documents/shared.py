"""Parts of several documents."""

from __future__ import annotations

from typing import TypedDict


class ProblemDocument(TypedDict):
    """A finding."""

    code: str
    message: str
    where: str | None
    severity: str


class MemberDocument(TypedDict):
    """A version's stored form in a basis."""

    version: str
    basis: str
    bytes: int
    error: float | None
    error_kind: str
