"""Documents about bases and stored forms."""

from __future__ import annotations

from typing import TypedDict

from adapterbank.cli.documents.shared import MemberDetailDocument, MemberDocument


class BasisDocument(TypedDict):
    """A basis; ``bytes`` are its own, ``members_bytes`` those of its members. ``codec``: ``rmm``, of whose ``components``, as
    asked for, at most members − 1 are stored, or ``rd``, a collection of coded adapters without components and ``object``."""

    ref: str
    name: str
    number: int
    base_model: str
    codec: str
    gauge: str
    components: int | None
    dtype: str
    object: str | None
    bytes: int
    error_mean: float | None
    error_worst: float | None
    error_kind: str
    created: str
    members: int
    members_bytes: int


class BasesDocument(TypedDict):
    """Bases."""

    bases: list[BasisDocument]


class BasisShowDocument(BasisDocument):
    """A basis with its stored forms; ``settings``: how each of a collection (codec ``rd``) is coded, its target and effort."""

    settings: dict[str, float]
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
    """A reconstruction written, from a form in a ``basis`` or on its own (null); ``error_kind``: ``measured`` or ``bound``
    (rounding to a narrower dtype makes it a bound)."""

    ref: str
    basis: str | None
    codec: str
    path: str
    error: float
    error_kind: str
    bytes: int


class EncodedDocument(TypedDict):
    """A version coded on its own: ``status`` is ``new``, ``replaced`` or ``unchanged``, ``bits`` are per LoRA parameter,
    ``ratio`` is the share of both files as registered."""

    ref: str
    codec: str
    status: str
    bits: float
    bytes: int
    ratio: float
    error: float
    error_kind: str
    seconds: float


class EncodingsDocument(TypedDict):
    """Versions coded on their own."""

    encoded: list[EncodedDocument]


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
