"""Documents about how adapters meet: explanations, comparisons, blends, clusters."""

from __future__ import annotations

from typing import Any, TypedDict

from adapterbank.cli.documents.held_out import HeldOutDocument
from adapterbank.cli.documents.recipes import RecipeDocument


class ModuleConflictDocument(TypedDict):
    """How adapters meet in one module; ``residual`` is what the cut of the merge lost there."""

    name: str
    norms: list[float]
    weights: list[float]
    cosine: list[list[float]]
    disagreement: float
    cancelled: float
    residual: float | None


class ExplanationDocument(TypedDict):
    """How adapters meet: ``norms`` are ‖ΔW‖, ``cosine`` their matrix, ``disagreement`` the share of entries with opposite
    signs, the mean over pairs (unrelated adapters: a half), ``cancelled`` the share of the weighted mass that cancels in the
    sum. Of a merge (else null): ``merged_norm``, ``kept`` (its cosine with each input), ``residual``, ``recipe``; ``facts`` are
    what the method told of modules, ``held_out`` judges what was learned, if it was judged."""

    ref: str | None
    inputs: list[str]
    weights: list[float]
    norms: list[float]
    cosine: list[list[float]]
    disagreement: float
    cancelled: float
    merged_norm: float | None
    kept: list[float] | None
    residual: float | None
    recipe: RecipeDocument | None
    facts: dict[str, dict[str, float]]
    held_out: HeldOutDocument | None
    modules: list[ModuleConflictDocument]


class ComparedDocument(TypedDict):
    """One method: ``seconds`` of the merge alone, ``norm`` is ‖M‖, ``scores`` by task and their mean ``score`` where there was
    an evaluation; ``failed`` says why there is no result."""

    method: str
    options: dict[str, Any]
    rank: int | None
    residual: float | None
    norm: float | None
    seconds: float | None
    scores: dict[str, float]
    score: float | None
    failed: str | None


class ComparisonDocument(TypedDict):
    """Methods on the same adapters."""

    inputs: list[str]
    weights: list[float]
    methods: list[ComparedDocument]


class BlendDocument(TypedDict):
    """A mixture written as a PEFT directory; ``residual`` is 0 where nothing was cut."""

    path: str
    weights: dict[str, float]
    rank: int
    residual: float
    bytes: int


class ClusterDocument(TypedDict):
    """Adapters that belong together; ``merged`` is the reference of their merge, where one was made."""

    refs: list[str]
    merged: str | None


class ClusteringDocument(TypedDict):
    """Clusters; ``within`` and ``between`` are mean cosines of two adapters of one and of different ones (null: no pair)."""

    inputs: list[str]
    clusters: list[ClusterDocument]
    within: float | None
    between: float | None
    cosine: list[list[float]]
