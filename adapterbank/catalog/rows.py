"""What the catalog returns and takes: frozen values. No row of SQLAlchemy leaves the room.

Times are ISO 8601 text in UTC (``2026-11-23T12:00:00.000000Z``), sizes are bytes, errors are relative in ΔW, digests are
64 hex digits of SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterbank.errors import IntegrityError
from adapterbank.lora.layout import Layout, ModuleShape


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model: its canonical ``name`` and the hub ids, paths and served names that mean the same model."""

    id: int
    name: str
    aliases: tuple[str, ...]
    fingerprint: str | None
    quantization: str | None
    created: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be added. ``base_model`` is any name of the base model; ``parent`` a reference such as ``sql@1``."""

    name: str
    base_model: str
    files: str
    content: str
    config: str
    weights: str
    config_size: int
    weights_size: int
    kind: str
    dtype: str
    rank: int
    alpha: float
    rslora: bool
    target_modules: tuple[str, ...]
    modules: tuple[ModuleShape, ...]
    parameters: int
    parent: str | None = None
    note: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    obstacle: str | None = None
    naming: str = "current"
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of an adapter; only tags, metrics, note, aliases and level may change.

    ``id`` comes from a table that never gives a number twice: it is the integer id for serving engines. ``files`` is the
    digest of the exact bytes of both files, ``content`` that of tensors and effective configuration; ``config`` and
    ``weights`` are the digests of the two objects. ``level`` is ``original``, ``exact`` (then a coded
    object stands in the place of ``weights``, see ``levels.exact_form``), or ``bounded`` (then the bytes are gone and a
    stored form stands for them). ``obstacle`` says why the update is no linear function of
    B·A, ``naming`` how the file names modules (see ``peft_format/names.py``). ``bytes`` counts both files as registered.
    ``method`` is set for merges.
    """

    id: int
    name: str
    number: int
    base_model: str
    files: str
    content: str
    kind: str
    level: str
    dtype: str
    rank: int
    alpha: float
    rslora: bool
    target_modules: tuple[str, ...]
    modules: tuple[ModuleShape, ...] = field(repr=False)
    parameters: int
    bytes: int
    created: str
    parent: str | None
    note: str | None
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    aliases: tuple[str, ...]
    config: str
    weights: str
    carried: tuple[str, ...]
    obstacle: str | None
    naming: str
    method: str | None

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Alias:
    """``name@alias`` and the version number that it means now."""

    name: str
    alias: str
    version: int


@dataclass(frozen=True, slots=True)
class AliasEvent:
    """One move of an alias: ``old`` is None when it was made, ``new`` is None when it was removed."""

    alias: str
    old: int | None
    new: int | None
    created: str


@dataclass(frozen=True, slots=True)
class NewBasis:
    """A basis to be added: everything that its object does not say by itself. ``components`` and ``object`` are of the codec
    ``rmm`` only, ``settings`` of the codec ``rd``: as JSON, how each member is coded."""

    name: str
    base_model: str
    layout: Layout
    codec: str
    gauge: str
    components: int | None
    dtype: str
    object: str | None
    bytes: int
    error_mean: float
    error_worst: float
    error_kind: str = "measured"
    settings: str | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """One immutable version of a basis. ``error_kind`` is ``measured``, or ``bound`` when built from bounded members.

    ``codec`` is ``rmm``, whose members share mean and ``components``; or ``rd``, a collection of coded adapters, some of them
    against others, without components. What the members of ``rmm`` share is one ``object``; a collection has none, only
    ``settings``. ``bytes`` are its own object's, 0 without one, ``members_bytes`` those of its members'.
    """

    id: int
    name: str
    number: int
    base_model: str
    layout: Layout = field(repr=False)
    codec: str
    gauge: str
    components: int | None
    dtype: str
    object: str | None
    bytes: int
    settings: str | None = field(repr=False)
    error_mean: float
    error_worst: float
    error_kind: str
    created: str
    members: int
    members_bytes: int

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def shared(self) -> str:
        """The digest of what its members share. Raises IntegrityError for a collection, whose members share nothing."""
        if self.object is None:
            raise IntegrityError(f"{self.ref} of the codec {self.codec} has no object of its own", hint="adapterbank verify")
        return self.object


@dataclass(frozen=True, slots=True)
class NewMember:
    """A stored form to be added; ``module_errors`` has a value per module of the version, ``references`` are the digests of
    the objects that it was coded against, each of which needs at most those before it."""

    object: str
    bytes: int
    error: float
    absent: tuple[str, ...] = ()
    module_errors: Mapping[str, float] = field(default_factory=dict)
    error_kind: str = "measured"
    codec: str = "rmm"
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A stored form of a version: a member of ``basis``, or with None coded on its own; ``codec`` says how to read it.

    ``references`` are the versions whose forms in the same basis this one was coded against, and ``reference_objects`` the
    objects of those forms: decoding needs them. ``absent`` are modules of the basis that the adapter lacks (exact zeros),
    ``parameters`` those of the version.
    """

    id: int
    basis: str | None
    version: str
    codec: str
    object: str
    references: tuple[str, ...]
    reference_objects: tuple[str, ...]
    bytes: int
    error: float
    error_kind: str
    absent: tuple[str, ...]
    module_errors: Mapping[str, float] = field(repr=False)
    parameters: int = 0

    @property
    def bits(self) -> float:
        """Bits of its own object per LoRA parameter of the version."""
        return 8 * self.bytes / max(self.parameters, 1)

    @property
    def place(self) -> str:
        """Where this form is, in words: the basis, or the codec that coded it on its own."""
        return self.basis or f"{self.codec} alone"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a merge was made: ``body`` has inputs by digest, weights, options and seed; ``residual`` is the cut to rank."""

    version: str
    method: str
    body: Mapping[str, Any]
    residual: float
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewArtefact:
    """A result of calibration to be added: ``family`` is ``statistics`` (of one adapter) or ``coefficients`` (over several),
    ``kind`` the procedure's; ``adapters`` are content digests."""

    family: str
    kind: str
    adapters: tuple[str, ...]
    object: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Artefact:
    """A stored result of calibration, from which merges are made without data. ``versions`` are those it was made for."""

    id: int
    family: str
    kind: str
    object: str
    bytes: int
    created: str
    adapters: tuple[str, ...] = field(repr=False)
    versions: tuple[str, ...]

    @property
    def ref(self) -> str:
        """How commands name it."""
        return f"sha256:{self.object[:12]}"

    @property
    def label(self) -> str:
        """What it is, in words: ``gram of sql@1``."""
        return f"{self.kind} of {', '.join(self.versions)}"


@dataclass(frozen=True, slots=True)
class Edge:
    """``dependent`` needs ``needed``, both as labels: ``version sql@1``, ``member sql@1 of b1@2``, ``form rd of sql@1`` …"""

    dependent: str
    needed: str
    kind: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the vault as the catalog knows it."""

    digest: str
    bytes: int


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """Revisions before and after an upgrade (equal if there was nothing to do) and the path of the backup."""

    before: str | None
    after: str
    backup: str | None
