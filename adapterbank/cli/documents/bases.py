"""Documents about bases and stored forms."""

from __future__ import annotations

from typing import TypedDict

from adapterbank.cli.documents.shared import MemberDocument


class BasisDocument(TypedDict):
    """A basis; ``bytes`` are its own, without its members'; of ``components``, as asked for, at most members − 1 are stored."""

    ref: str
    name: str
    number: int
    base_model: str
    codec: str
    gauge: str
    components: int
    dtype: str
    object: str
    bytes: int
    error_mean: float | None
    error_worst: float | None
    error_kind: str
    created: str
    members: int


class BasesDocument(TypedDict):
    """Bases."""

    bases: list[BasisDocument]


class MemberDetailDocument(MemberDocument):
    """A stored form with the error of every module; ``absent`` are the modules that the adapter lacks."""

    absent: list[str]
    module_errors: dict[str, float | None]


class BasisShowDocument(BasisDocument):
    """A basis with its stored forms."""

    forms: list[MemberDetailDocument]


class OptionDocument(TypedDict):
    """A size that a basis could have; ``ratio`` is its share of the originals' bytes, ``energy`` of the variance."""

    components: int
    bytes: int
    ratio: float
    error_mean: float
    error_worst: float
    energy: float


class OptionsDocument(TypedDict):
    """The sizes that a basis could have."""

    options: list[OptionDocument]


class AddedDocument(TypedDict):
    """Stored forms that were added."""

    forms: list[MemberDocument]


class RebuiltDocument(TypedDict):
    """A basis before and after; ``removed``: the old version could go."""

    before: BasisDocument
    after: BasisDocument
    before_forms: list[MemberDocument]
    after_forms: list[MemberDocument]
    removed: bool


class WrittenDocument(TypedDict):
    """A reconstruction written; ``error_kind``: ``measured`` or ``bound`` (rounding to a narrower dtype makes it a bound)."""

    ref: str
    basis: str
    path: str
    error: float
    error_kind: str
    bytes: int


class ExactFormDocument(TypedDict):
    """A losslessly coded object; ``reference``: the version whose bytes it is coded as differences to."""

    object: str
    bytes: int
    reference: str | None


class CompactionDocument(TypedDict):
    """Versions at another ``level``: the form that stands for each (``bounded``), or the coded object (``exact``).

    ``kept``: coded they would be no smaller; ``merges_bounded``: merges whose revert is now bounded.
    """

    refs: list[str]
    level: str
    bytes_freed: int
    forms: dict[str, MemberDocument]
    coded: dict[str, ExactFormDocument]
    kept: list[str]
    merges_bounded: list[str]
    dry_run: bool
