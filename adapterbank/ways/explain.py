"""explain: what went into a merge, and where its adapters agree or are against each other; also before any merge."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from adapterbank.catalog.rows import Version
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.conflicts import Conflict, conflicts, total
from adapterbank.merge.inputs import Inputs
from adapterbank.ways.joinable import each_once
from adapterbank.ways.lineage import Planned, plan, planned, recipe_row
from adapterbank.ways.load import load
from adapterbank.ways.merge import conditions, opened
from adapterbank.ways.merge_results import Explanation, ModuleConflict
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms


def explain_merge(rooms: Rooms, version: Version, *, progress: Progress | None = None) -> Explanation:
    """The merge ``version`` and its constituents. Raises NotFoundError if it was not merged."""
    row = recipe_row(rooms, version)
    of = planned(rooms, row)
    with ExitStack() as stack:
        merged = stack.enter_context(load(rooms, version)).adapter
        found, weights = _conflicts(rooms, of, merged, progress)
    residuals = row.body.get("residuals", {})
    whole = total(found)
    return Explanation(
        ref=version.ref,
        **_meeting(of, whole),
        merged_norm=whole.merged_norm,
        kept=tuple(whole.kept),
        residual=row.residual,
        facts=row.body.get("facts", {}),
        modules=tuple(_module(name, one, weights[name], residuals.get(name)) for name, one in found.items()),
        held_out=row.body.get("held_out"),
    )


def explain_inputs(rooms: Rooms, chosen: Sequence[tuple[Version, float]], *, progress: Progress | None = None) -> Explanation:
    """How adapters would meet in a merge with these weights."""
    each_once([version for version, _ in chosen], "an explanation")
    of = plan("task_arithmetic", chosen)
    found, weights = _conflicts(rooms, of, None, progress)
    return Explanation(
        ref=None,
        **_meeting(of, total(found)),
        merged_norm=None,
        kept=None,
        residual=None,
        facts={},
        modules=tuple(_module(name, one, weights[name], None) for name, one in found.items()),
    )


def _conflicts(
    rooms: Rooms, of: Planned, merged: Adapter | None, progress: Progress | None
) -> tuple[dict[str, Conflict], dict[str, tuple[float, ...]]]:
    """Of each module, in the order in which the recipe names its inputs, with the weights there."""
    recipe = of.recipe
    with opened(rooms, of.chosen) as sources:
        adapters = [source.adapter for source in sources]
        weights, names = [part.weight for part in recipe.inputs], [part.digest for part in recipe.inputs]
        given = Inputs.of(adapters, weights, names, recipe.seed, conditions(rooms, recipe, adapters), ordered=True)
        found = {}
        for done, (module, conflict) in enumerate(conflicts(given, merged), start=1):
            found[module] = conflict
            if progress is not None:
                progress(done, len(given.shapes))
        return found, {module: given.schedules.get(module, given.weights) for module in found}


def _meeting(of: Planned, whole: Conflict) -> dict[str, Any]:
    return {
        "inputs": tuple(version.ref for version in of.chosen),
        "weights": tuple(part.weight for part in of.recipe.inputs),
        "norms": tuple(whole.norms),
        "cosine": tuple(tuple(row) for row in whole.cosine),
        "disagreement": whole.disagreement,
        "cancelled": whole.cancelled,
    }


def _module(name: str, one: Conflict, weights: Sequence[float], residual: float | None) -> ModuleConflict:
    cosine = tuple(tuple(row) for row in one.cosine)
    return ModuleConflict(name, tuple(one.norms), tuple(weights), cosine, one.disagreement, one.cancelled, residual)
