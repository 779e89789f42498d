"""What the ways return: frozen values, each field a key of the command line's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from adapterbank.catalog.levels import ExactForm
from adapterbank.catalog.rows import AliasEvent, Artefact, Basis, Member, Version
from adapterbank.errors import Problem

if TYPE_CHECKING:
    from adapterbank.calibration.held_out import HeldOut

HELD_OUT = 16  # batches of each task that judge what was learned, unless the user says otherwise
Progress = Callable[[int, int], None]  # (done, in all), in a unit that the way names


class Made:
    """What made a version answers to everything that the version answers to: ``made.ref``, ``made.number``, ``made.files`` …"""

    __slots__ = ()
    version: Version

    @property
    def ref(self) -> str:
        return self.version.ref

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "version":  # an unpickled object has no fields yet
            raise AttributeError(name)
        return getattr(self.version, name)


@dataclass(frozen=True, slots=True)
class Registered(Made):
    """``status``: ``registered``, ``unchanged``, or ``restored`` when a compacted version got its exact bytes back.

    ``not_kept`` names files of the directory that are not stored.
    """

    version: Version
    status: str
    warnings: tuple[Problem, ...] = ()
    not_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One directory of a bulk registration: a status of :class:`Registered`, or ``refused`` with the error's code."""

    path: str
    name: str
    status: str
    ref: str | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All versions of a name, oldest first, and every move of its aliases."""

    name: str
    versions: tuple[Version, ...]
    events: tuple[AliasEvent, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A written PEFT directory: ``exact`` bytes as registered, or an approximation with its relative ΔW ``error``."""

    version: Version
    path: str
    exact: bool
    error: float | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Option:
    """One size a basis could have: bytes of all its objects, ``ratio`` to the originals, errors relative in ΔW."""

    components: int
    bytes: int
    ratio: float
    error_mean: float
    error_worst: float
    energy: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """A version coded on its own: ``status`` of its form is ``new``, ``replaced`` or ``unchanged``, ``bits`` are per LoRA
    parameter, ``ratio`` is of both files as registered."""

    form: Member
    status: str
    bits: float
    ratio: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ModuleForm:
    """How a form stores one module: what it was predicted from, its rank, the components that are stored, its bytes (side
    information shared out), and its relative ΔW error (None: not measured)."""

    name: str
    predict: str
    rank: int
    live: int
    bytes: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A basis before and after a rebuild; ``removed`` says whether the old version could go."""

    before: Basis
    after: Basis
    before_members: tuple[Member, ...]
    after_members: tuple[Member, ...]
    removed: bool


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed (or would be): references, and the objects and bytes that this released."""

    refs: tuple[str, ...]
    objects: int
    bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A reconstruction written as a PEFT directory: the form it came from (``basis`` is None for one that stands alone), and
    its error, measured or a bound."""

    ref: str
    basis: str | None
    codec: str
    path: str
    error: float
    error_kind: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Materialized:
    """A canonical directory: ``status`` is ``written`` or ``unchanged``; ``error`` is relative in ΔW, 0 for exact values."""

    ref: str
    path: str
    status: str
    rank: int
    dtype: str
    error: float
    error_kind: str
    bytes: int


@dataclass(frozen=True, slots=True)
class MergedVersion(Made):
    """A merge, registered: ``residual`` is ‖M − M_k‖/‖M‖ of the cut to ``rank``; ``report`` is the method's own. ``artefacts``
    are the references of what was used beside the adapters. ``held_out`` is what was learned, by its own objective on data that
    it did not see (None: no such data)."""

    version: Version
    status: str
    residual: float
    rank: int
    report: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    artefacts: tuple[str, ...] = ()
    held_out: HeldOut | None = None


@dataclass(frozen=True, slots=True)
class Calibrated(Sequence[Artefact]):
    """The artefacts that a calibration made, and what they are worth on data that it did not see (None: no such data)."""

    artefacts: tuple[Artefact, ...]
    held_out: HeldOut | None

    @overload
    def __getitem__(self, place: int) -> Artefact: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Artefact]: ...
    def __getitem__(self, place: int | slice) -> Artefact | Sequence[Artefact]:
        return self.artefacts[place]

    def __len__(self) -> int:
        return len(self.artefacts)


@dataclass(frozen=True, slots=True)
class Replay:
    """``outcome``: ``bits``, ``within 3e-7`` or ``differs``; ``difference`` relative in ΔW.

    ``changed`` says what is not as it was: parts of the environment, and under ``input NAME@N`` an input that was exact then
    and is bounded now (or the other way round).
    """

    ref: str
    outcome: str
    difference: float
    changed: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True)
class Reverted:
    """The constituents of a merge, written beside each other."""

    ref: str
    constituents: tuple[Exported, ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """Versions that are (or would be) at ``level`` now, and what stands for each: at ``bounded`` the form in ``forms``, at
    ``exact`` the coded object in ``coded``. ``kept`` stay as they are: coded they would be no smaller. ``bytes_freed`` is
    negative where bytes came back."""

    refs: tuple[str, ...]
    bytes_freed: int
    forms: Mapping[str, Member]
    merges_bounded: tuple[str, ...]
    dry_run: bool
    level: str = "bounded"
    coded: Mapping[str, ExactForm] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects nothing refers to (digest, bytes) and litter of killed processes, collected or only listed."""

    objects: tuple[tuple[str, int], ...]
    staging: int
    bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """How much was checked, and every finding."""

    objects: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding of ``doctor``; ``status`` is ``ok``, ``warning`` or ``error``."""

    name: str
    status: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Schema revisions before and after, and the backup made in between (none if nothing was to be done)."""

    before: str | None
    after: str
    backup: str | None
