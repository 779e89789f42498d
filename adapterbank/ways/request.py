"""request: what a user asks of a merge, drawn up as a recipe: metrics become weights, data become artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adapterbank.catalog.rows import Version
from adapterbank.errors import UsageError
from adapterbank.merge.greedy import greedy
from adapterbank.merge.methods.opcm import METHOD as OPCM
from adapterbank.merge.metrics import metric_weights
from adapterbank.merge.options import parse_options
from adapterbank.merge.recipe import Ingredient
from adapterbank.merge.registry import find
from adapterbank.ways import artefacts, lineage
from adapterbank.ways.calibrate import for_method
from adapterbank.ways.compare import Evaluate, mean, scored
from adapterbank.ways.lineage import Planned
from adapterbank.ways.merge import opened, run_on
from adapterbank.ways.results import HELD_OUT, Progress
from adapterbank.ways.rooms import Rooms

if TYPE_CHECKING:
    from adapterbank.calibration.tasks import Setting

_INTACT = 1e-6  # a merge that was cut by no more than this is what its state says
Weighted = Sequence[tuple[Version, float]]


@dataclass(frozen=True, slots=True)
class Request:
    """``settings`` are fields of the recipe as the user gave them. Beside them: ``using`` names artefacts, ``setting`` is a
    model with data to make them from, ``batches`` how many of each task that it holds out judge what was learned, ``metric`` a
    key of the registry, ``evaluate`` judges a merge."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    using: tuple[str, ...] = ()
    setting: Setting | None = None
    metric: str | None = None
    evaluate: Evaluate | None = None
    batches: int = HELD_OUT


def drawn_up(rooms: Rooms, method: str, chosen: Weighted, request: Request, progress: Progress | None = None) -> Planned:
    """The recipe of ``method`` over ``chosen``. Raises UsageError and NotFoundError for what the method needs and was not
    given, each with the way to give it."""
    needs, settings = find(method).needs, dict(request.settings)
    versions = [version for version, _ in chosen]
    if artefacts.METRIC in needs:
        chosen = _by_metric(rooms, method, chosen, request)
    if request.setting is None:
        used = artefacts.wanted(rooms, method, versions, request.using)
    else:
        own: dict[str, Any] = {"options": settings.get("options"), "seed": settings.get("seed", 0), "batches": request.batches}
        used = for_method(rooms, method, versions, request.setting, progress=progress, **own)
        settings["options"] = _of_the_method(method, settings.get("options") or {})
    return lineage.plan(method, chosen, artefacts=tuple(each.object for each in used), **settings)


def with_one_more(
    rooms: Rooms, merge: Version, new: Version, weight: float, request: Request, progress: Progress | None = None
) -> Planned:
    """The merge with ``new`` beside its constituents. A sequential one goes on from its own state and needs no more than
    that, if it was not cut after its last step; what others need of the new adapter is found or made as in a merge."""
    row = lineage.recipe_row(rooms, merge)
    of = lineage.planned(rooms, row)
    recipe = of.recipe
    state = next(iter(row.body.get("facts", {}).values()), None)
    whole = row.residual < _INTACT and not recipe.prepare and not recipe.schedules
    if recipe.method == OPCM.name and state is not None and whole:
        inputs = (Ingredient(merge.content, 1.0), Ingredient(new.content, weight))
        return Planned(replace(recipe, inputs=inputs, continues=state), (merge, new))
    planned = lineage.plus(of, new, weight)
    if request.setting is not None:
        own: dict[str, Any] = {"seed": recipe.seed, "batches": request.batches}
        used = for_method(rooms, recipe.method, planned.chosen, request.setting, progress=progress, **own)
    else:
        used = artefacts.wanted(rooms, recipe.method, planned.chosen, request.using)
    digests = tuple(artefact.object for artefact in used)
    return Planned(replace(planned.recipe, artefacts=digests), planned.chosen)


def without_one(rooms: Rooms, merge: Version, gone: Version) -> Planned:
    """The merge without one of its constituents, from what is stored. Raises UsageError if ``gone`` is none of them, or if the
    merge continues another: that one has no other inputs to be made from."""
    of = lineage.planned(rooms, lineage.recipe_row(rooms, merge))
    if of.recipe.continues is not None:
        first = of.chosen[0].ref
        raise UsageError(f"{merge.ref} continues {first} and holds only its state", hint=f"take {first} instead")
    left = lineage.minus(of, gone)
    kept = artefacts.kept_without(rooms, left.recipe.artefacts, left.chosen)
    return Planned(replace(left.recipe, artefacts=kept), left.chosen)


def _of_the_method(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of options for calibration and merge together those of the merge."""
    known = {option.name for option in find(method).options}
    return {name: value for name, value in options.items() if name in known}


def _by_metric(rooms: Rooms, method: str, chosen: Weighted, request: Request) -> list[tuple[Version, float]]:
    """The weights that a metric of the registry gives, times those given; for a soup 1 for what was kept and 0 for the rest."""
    values = _metrics(method, [version for version, _ in chosen], request.metric)
    options = parse_options(method, find(method).options, request.settings.get("options") or {})
    if artefacts.EVALUATION in find(method).needs:
        return _soup(rooms, chosen, values, request.evaluate, larger_is_better=options["larger_is_better"])
    weights = metric_weights(values, **options)
    return [(version, own * weight) for (version, own), weight in zip(chosen, weights, strict=True)]


def _metrics(method: str, versions: Sequence[Version], metric: str | None) -> list[float]:
    if metric is None:
        raise UsageError(f"{method} weighs adapters by a metric of the registry: which one?", hint="give --metric KEY")
    lacking = [version.ref for version in versions if metric not in version.metrics]
    if lacking:
        raise UsageError(
            f"no metric {metric!r} of {', '.join(lacking)}", hint=f"adapterbank metric {lacking[0]} {metric}=NUMBER"
        )
    return [version.metrics[metric] for version in versions]


def _soup(
    rooms: Rooms, chosen: Weighted, values: Sequence[float], evaluate: Evaluate | None, *, larger_is_better: bool
) -> list[tuple[Version, float]]:
    if evaluate is None:
        raise UsageError("a greedy soup judges averages of adapters", hint="give --evaluate FILE.py:FUNCTION")
    versions = [version for version, _ in chosen]
    by_name = {version.content: version for version in versions}
    with opened(rooms, versions) as sources:
        held = dict(zip(by_name, sources, strict=True))

        def judge(names: tuple[str, ...]) -> float:
            kept = [by_name[name] for name in names]
            of = lineage.plan("average", [(version, 1.0) for version in kept])
            merged = run_on(rooms, of, [held[name] for name in names]).merged
            return mean(scored(rooms, merged, kept, evaluate))

        soup = greedy(dict(zip(by_name, values, strict=True)), judge, larger_is_better=larger_is_better)
    return list(zip(versions, soup.weights(tuple(by_name)), strict=True))
