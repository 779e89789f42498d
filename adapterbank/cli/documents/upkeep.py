"""Documents about the bank itself."""

from __future__ import annotations

from typing import TypedDict

from adapterbank.cli.documents.shared import ProblemDocument


class BankDocument(TypedDict):
    """A bank; ``created`` is false if it was there already."""

    bank: str
    created: bool


class CheckDocument(TypedDict):
    """A finding of doctor; ``status`` is ``ok``, ``warning`` or ``error``."""

    name: str
    status: str
    message: str
    hint: str | None


class DoctorDocument(TypedDict):
    """The state of a bank."""

    bank: str
    checks: list[CheckDocument]


class UpgradedDocument(TypedDict):
    """Schema revisions before and after; no ``backup``: nothing was to be done."""

    before: str | None
    after: str
    backup: str | None


class VerificationDocument(TypedDict):
    """What was checked, and every finding."""

    objects: int
    rows: int
    bytes: int
    problems: list[ProblemDocument]


class RemovalDocument(TypedDict):
    """What was, or with ``dry_run`` would be, removed."""

    refs: list[str]
    objects: int
    bytes: int
    dry_run: bool


class GarbageObjectDocument(TypedDict):
    """An object that nothing refers to."""

    digest: str
    bytes: int


class GarbageDocument(TypedDict):
    """What was, or with ``dry_run`` would be, collected; ``staging`` counts litter of killed processes."""

    objects: list[GarbageObjectDocument]
    staging: int
    bytes: int
    dry_run: bool
