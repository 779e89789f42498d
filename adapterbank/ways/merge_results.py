"""What explaining, comparing, blending and clustering return: frozen values, each field a key of the command line's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterbank.lora.adapter import Adapter


@dataclass(frozen=True, slots=True)
class ModuleConflict:
    """How the adapters of a merge meet in one module; ``residual`` is what the cut lost there (None: not a merge)."""

    name: str
    norms: tuple[float, ...]
    weights: tuple[float, ...]
    cosine: tuple[tuple[float, ...], ...]
    disagreement: float
    cancelled: float
    residual: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Inputs and how they meet. ``norms`` are ‖ΔW_i‖, ``cosine`` their matrix over the whole model, ``disagreement`` the share
    of entries in which a pair has opposite signs (unrelated: a half), ``cancelled`` the share of the weighted mass that cancels
    in the sum. Of a merge: ``merged_norm`` is its ‖M‖, ``kept`` its cosine with each input, ``facts`` what the method told of
    modules; ``held_out`` what it is worth on data that its calibration did not see, as it was stored.
    """

    ref: str | None
    inputs: tuple[str, ...]
    weights: tuple[float, ...]
    norms: tuple[float, ...]
    cosine: tuple[tuple[float, ...], ...]
    disagreement: float
    cancelled: float
    merged_norm: float | None
    kept: tuple[float, ...] | None
    residual: float | None
    facts: Mapping[str, Mapping[str, float]]
    modules: tuple[ModuleConflict, ...]
    held_out: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One method on the same adapters: seconds of the merge alone; ``scores`` by task where there was an evaluation, ``score``
    their mean. ``failed`` says why there is no result."""

    method: str
    options: Mapping[str, Any]
    rank: int | None
    residual: float | None
    norm: float | None
    seconds: float | None
    scores: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several methods on the same adapters, in the order given."""

    inputs: tuple[str, ...]
    weights: tuple[float, ...]
    methods: tuple[Compared, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Blended:
    """A mixture in ΔW space: ``residual`` is 0 where nothing was cut."""

    adapter: Adapter
    weights: Mapping[str, float]
    rank: int
    residual: float


@dataclass(frozen=True, slots=True)
class WrittenBlend:
    """The same as a PEFT directory."""

    path: str
    weights: Mapping[str, float]
    rank: int
    residual: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Adapters that belong together; ``merged`` is the reference of their merge, where one was made."""

    refs: tuple[str, ...]
    merged: str | None = None


@dataclass(frozen=True, slots=True)
class Clustering:
    """``within`` and ``between``: the mean cosine of two adapters of one cluster, and of two of different ones (None: no such
    pair); ``cosine`` is the matrix in the order of ``inputs``."""

    inputs: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    within: float | None
    between: float | None
    cosine: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class CoefficientsCompared:
    """Sets of coefficients beside each other: mean and standard deviation over modules by version, cosines between the sets."""

    refs: tuple[str, ...]
    kinds: tuple[str, ...]
    means: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, Mapping[str, float]]
    cosine: tuple[tuple[float, ...], ...]
