"""held out: what was learned, judged on data that it did not see, as a calibration leaves it and as a merge is registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from adapterbank.calibration.held_out import JUDGING, HeldOut, Pair, Point, held_out
from adapterbank.calibration.judging import Case
from adapterbank.calibration.procedures import Procedure, making
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Artefact, Coefficients
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.engine import merge
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.recipe import EXACT, Rank, Recipe
from adapterbank.merge.registry import all_methods, find
from adapterbank.ways.lineage import Planned
from adapterbank.ways.load import load
from adapterbank.ways.merge import conditions
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms

_WHOLE = {"energy": 1.0}  # nothing is cut, of a dense merge neither


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A recipe over ``adapters`` with the values that it is given, and the calibration that made those."""

    procedure: Procedure
    recipe: Recipe
    adapters: Sequence[Adapter]
    given: Conditions
    options: Mapping[str, Any]

    def result(self, rank: Rank, given: Conditions | None = None) -> Adapter:
        """The merge, cut to ``rank``."""
        return _merged(self.recipe, self.adapters, given or self.given, rank)

    def starts(self, rank: Rank) -> list[Adapter]:
        """What it was learned from: the average by the weights, or by other coefficients; cut to ``rank``."""
        weights = [part.weight for part in self.recipe.inputs]
        rows = JUDGING[self.procedure.name].coefficients(self.options, len(weights))
        return [self._sum(rank, row) for row in ([None] if rows is None else rows.tolist())]

    def _sum(self, rank: Rank, coefficients: Sequence[float] | None) -> Adapter:
        def scaled(weights: Sequence[float]) -> list[float]:
            size = sum(map(abs, weights)) or 1.0
            factors = [1.0 / size] * len(weights) if coefficients is None else coefficients
            return [weight * factor for weight, factor in zip(weights, factors, strict=True)]

        weights = scaled([part.weight for part in self.recipe.inputs])
        inputs = tuple(replace(part, weight=own) for part, own in zip(self.recipe.inputs, weights, strict=True))
        recipe = replace(self.recipe, method="task_arithmetic", inputs=inputs, options={})
        schedules = {module: scaled(own) for module, own in self.given.schedules.items()}
        return _merged(recipe, self.adapters, replace(self.given, schedules=schedules, artefacts=()), rank)


def of_calibration(
    procedure: Procedure,
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    made: Sequence[Artefact],
    options: Mapping[str, Any],
    progress: Progress | None = None,
) -> HeldOut | None:
    """Of the merge of equal weights by what was ``made``, not cut; of several coefficients the first, and each as a point.

    None if nothing is held out for one of the adapters.
    """
    method = next(name for name, each in all_methods().items() if any(making(n, name) is procedure for n in each.needs))
    known = {option.name for option in find(method).options}
    own = {name: value for name, value in options.items() if name in known}
    recipe = Recipe.of(method, [(name, 1.0) for name in names], options=own)
    learned = Learned(procedure, recipe, adapters, Conditions(artefacts=tuple(made)), _options(made, recipe, options))
    several = made if isinstance(made[0], Coefficients) and len(made) > 1 else ()
    results = [learned.result(_WHOLE, Conditions(artefacts=(each,))) for each in several]
    return _judged(learned, setting, None, results, progress)


def of_merge(rooms: Rooms, of: Planned, merged: Adapter, setting: Setting, progress: Progress | None = None) -> HeldOut | None:
    """Of a merge as it was planned, before the cut, and of ``merged``, what it is after it; the points are those stored with
    its coefficients. The tasks of ``setting`` are those of its adapters, in their order.

    None for a method that does not learn, and if nothing is held out for one of the adapters.
    """
    recipe = of.recipe
    procedure = next((found for need in find(recipe.method).needs if (found := making(need, recipe.method))), None)
    if procedure is None or recipe.continues is not None:
        return None
    with ExitStack() as stack:
        adapters = [stack.enter_context(load(rooms, version)).adapter for version in of.chosen]
        given = conditions(rooms, recipe, adapters)
        learned = Learned(procedure, recipe, adapters, given, _options(given.artefacts, recipe, {}))
        cut = None if recipe.rank == EXACT else merged
        judged = _judged(learned, setting, cut, (), progress)
    return None if judged is None else replace(judged, points=_points(given.artefacts))


def _judged(
    learned: Learned, setting: Setting, cut: Adapter | None, results: Sequence[Adapter], progress: Progress | None
) -> HeldOut | None:
    if not all(_can_judge(setting.held_out.get(ref), task) for ref, task in setting.tasks.items()):
        return None
    judging, recipe = Setting(setting.model, setting.held_out), learned.recipe
    weights, names = [part.weight for part in recipe.inputs], [part.digest for part in recipe.inputs]
    inputs = Inputs.of(learned.adapters, weights, names, recipe.seed, learned.given, ordered=True)
    pairs = [Pair(learned.starts(_WHOLE), learned.result(_WHOLE))]
    if cut is not None:
        pairs.append(Pair(learned.starts(recipe.rank), cut, cut.rank))
    case = Case(judging, inputs, pairs[0].result, learned.options, progress)
    return held_out(learned.procedure.name, case, pairs, results, progress)


def _can_judge(held_out: Task | None, task: Task) -> bool:
    """Whether it has batches, and labels if they were there to learn from."""
    return held_out is not None and len(held_out.batches) > 0 and (held_out.labels is not None or task.labels is None)


def _points(given: Sequence[Artefact]) -> tuple[Point, ...]:
    """The points among which the first of ``given``, if coefficients, was found."""
    story = given[0].about.get("held_out") or {}
    return tuple(Point(**point) for point in story.get("points", ()))


def _options(given: Sequence[Artefact], recipe: Recipe, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the calibration, as the artefact tells them, and those of the merge."""
    about = given[0].about
    return {**options, **about.get("options", about), **recipe.options}


def _merged(recipe: Recipe, adapters: Sequence[Adapter], given: Conditions, rank: Rank) -> Adapter:
    done = merge(
        recipe.method,
        adapters,
        [part.weight for part in recipe.inputs],
        names=[part.digest for part in recipe.inputs],
        rank=rank,
        options=recipe.options,
        seed=recipe.seed,
        dtype=getattr(torch, recipe.dtype),
        conditions=given,
    )
    return done.adapter
