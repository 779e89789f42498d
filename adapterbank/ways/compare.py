"""compare: several methods on the same adapters, each with its residual, its time and, where somebody judges it, its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from adapterbank.catalog.rows import Version
from adapterbank.errors import AdapterBankError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_squared_norm
from adapterbank.merge.engine import Merged
from adapterbank.peft_format.directory import write_directory
from adapterbank.ways import artefacts
from adapterbank.ways.lineage import plan
from adapterbank.ways.load import Loaded
from adapterbank.ways.merge import encoded, opened, run_on
from adapterbank.ways.merge_results import Compared, Comparison
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms

Evaluate = Callable[[str, list[str]], Mapping[str, float]]
"""(a PEFT directory, the references that were merged) → a score by task, larger is better."""
Wanted = tuple[str, Mapping[str, Any]]  # a method and its options


def compare(
    rooms: Rooms,
    methods: Sequence[Wanted],
    chosen: Sequence[tuple[Version, float]],
    *,
    evaluate: Evaluate | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run every method; one that cannot be run is told as ``failed`` and does not stop the others.

    ``settings`` are the other fields of the recipes, the same for all. Raises UsageError without methods or adapters,
    IncompatibleError for adapters that cannot be joined.
    """
    if not methods:
        raise UsageError("nothing to compare: expected at least one method", hint="adapterbank methods")
    versions = [version for version, _ in chosen]
    plan(methods[0][0], chosen)
    rows = []
    with opened(rooms, versions) as inputs:
        for place, (method, options) in enumerate(methods):
            told = _told(progress, place, len(methods))
            try:
                rows.append(_one(rooms, method, options, chosen, inputs, evaluate, dict(settings or {}), told))
            except AdapterBankError as error:
                rows.append(Compared(method, options, None, None, None, None, failed=error.message))
    return Comparison(tuple(v.ref for v in versions), tuple(weight for _, weight in chosen), tuple(rows))


def scored(rooms: Rooms, merged: Merged, chosen: Sequence[Version], evaluate: Evaluate) -> dict[str, float]:
    """What the user's function says of the merge, written as a PEFT directory for as long as it looks. Raises UsageError for
    an answer that is no score by task."""
    config, weights = encoded(rooms, merged, chosen[0])
    with TemporaryDirectory(prefix="adapterbank-") as folder:
        place = Path(folder) / "merged"
        write_directory(place, {"adapter_config.json": config, "adapter_model.safetensors": weights})
        answer = evaluate(str(place), [version.ref for version in chosen])
    if not isinstance(answer, Mapping) or not answer:
        raise UsageError(f"the evaluation returned {type(answer).__name__}, expected a score (a number) by task")
    try:
        return {str(task): float(score) for task, score in answer.items()}
    except (TypeError, ValueError):
        raise UsageError(f"the evaluation returned {dict(answer)!r}, expected a number by task") from None


def mean(scores: Mapping[str, float]) -> float:
    """The mean over tasks."""
    return sum(scores.values()) / len(scores)


def _one(
    rooms: Rooms,
    method: str,
    options: Mapping[str, Any],
    chosen: Sequence[tuple[Version, float]],
    inputs: Sequence[Loaded],
    evaluate: Evaluate | None,
    settings: dict[str, Any],
    progress: Progress | None,
) -> Compared:
    versions = [version for version, _ in chosen]
    used = artefacts.wanted(rooms, method, versions, ())
    of = plan(method, chosen, options=options, artefacts=tuple(artefact.object for artefact in used), **settings)
    start = perf_counter()
    merged = run_on(rooms, of, inputs, progress=progress).merged
    seconds = perf_counter() - start
    scores = scored(rooms, merged, versions, evaluate) if evaluate is not None else {}
    return Compared(
        method, options, merged.rank, merged.residual, norm(merged.adapter), round(seconds, 4), scores,
        mean(scores) if scores else None,
    )  # fmt: skip


def norm(adapter: Adapter) -> float:
    """‖ΔW‖ over the whole model."""
    return float(sum(delta_squared_norm(factors) for factors in adapter.modules.values()) ** 0.5)


def _told(progress: Progress | None, place: int, count: int) -> Progress | None:
    """Progress of one method of several, in modules of all."""
    if progress is None:
        return None
    return lambda done, total: progress(place * total + done, count * total)
