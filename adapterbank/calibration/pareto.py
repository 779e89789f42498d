"""MAP (arXiv 2406.07529): the trade-offs between tasks as a set of merges, from few evaluations.

Some merges ``W + Σ_i c_i·ΔW_i`` are evaluated on all tasks, a quadratic under a link is fitted to every metric, and the Pareto
front is read off these surrogates, where a point costs nothing. What is returned is coefficients; nothing is merged.

*plain*: one fit over all n adapters, which needs (n+1)(n+2)/2 evaluations. *nested*: adapters in pairs, then pairs of merges,
each a fit in two coefficients on the tasks of its adapters; the best of a pair for equal preferences goes on, and the last
pair's front is the result. *bayesian*: further rounds of evaluations where the surrogates err most.

The authors': sigmoid for accuracies and softplus for losses, the kinds of samples, 20 samples a pair, scores and temperature.
Ours: non-dominated points among Sobol candidates instead of NSGA-III (no dependency, no population to tune), twice as many
samples as parameters, bounds [0, 1]; the points of the front are evaluated, so that nothing returned is dominated by anything
that was evaluated; and against noise losses by default, as accuracies on little data differ by single sentences, and a
tolerance: a point is left out that another one beats, or a better mean equals, but for what so few examples cannot tell:
``tolerance`` standard errors of the difference between the two, taken example by example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from adapterbank.calibration.attached import Site, attached
from adapterbank.calibration.descent import Told, continued
from adapterbank.calibration.objectives import checked, each_measured
from adapterbank.calibration.record import Progress, check_names, judge, learned
from adapterbank.calibration.surrogate_fronts import METRICS, Front, Measure, MetricName, Search, front, nested_front
from adapterbank.calibration.tasks import Setting, tasks_of
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.options import Hint

Variant = Annotated[
    Literal["plain", "nested", "bayesian"], Hint("one fit, fits of pairs, or further samples where the fit errs")
]
PerTask = Annotated[MetricName, Hint("what is traded off between the tasks")]
SampleCount = Annotated[int, Hint("evaluations per fit; 0: twice its parameters, nested 20", at_least=0)]
Rounds = Annotated[int, Hint("bayesian: further rounds of samples", above=0)]
Batch = Annotated[int, Hint("bayesian: samples per round", above=0)]
Candidates = Annotated[int, Hint("points at which the surrogates are asked", above=0)]
Points = Annotated[int, Hint("points of the front to evaluate and to return, at most", above=0)]
Lower = Annotated[float, Hint("smallest coefficient")]
Upper = Annotated[float, Hint("largest coefficient")]

Tolerance = Annotated[float, Hint("leave out what another point beats or equals but for so many standard errors", at_least=0.0)]

_PER_PAIR = 20


def pareto(  # noqa: PLR0913 - the options are keyword-only
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    variant: Variant = "plain",
    metric: PerTask = "loss",
    samples: SampleCount = 0,
    rounds: Rounds = 3,
    batch: Batch = 10,
    candidates: Candidates = 4096,
    points: Points = 8,
    lower: Lower = 0.0,
    upper: Upper = 1.0,
    tolerance: Tolerance = 1.0,
) -> tuple[Coefficients, ...]:
    """The front, best mean first, each with its metrics as ``predicted`` and judged; ``before`` is the average.

    Raises UsageError for fewer than two adapters, tasks without batches or labels, bounds that enclose nothing, fewer samples
    than a fit needs, and (nested) tasks that are not the adapters'.
    """
    check_names(names, adapters)
    checked(setting.tasks, labelled=metric != "entropy")
    if len(adapters) < 2 or not lower < upper:
        raise UsageError(f"a front needs two adapters or more and lower < upper: got {len(adapters)}, {lower} and {upper}")
    if variant == "nested":
        tasks_of(setting, names)
    per_fit, further = samples or (_PER_PAIR if variant == "nested" else 0), rounds if variant == "bayesian" else 0
    box: dict[str, Any] = {"candidates": candidates, "points": points, "lower": lower, "upper": upper, "tolerance": tolerance}
    search = Search(METRICS[metric], per_fit, further, batch, seed=seed, **box)
    options = {"variant": variant, "metric": metric, "samples": samples, "rounds": rounds, "batch": batch, **box}
    about: dict[str, Any] = {"method": "map", "options": options, "seed": seed, "objective": metric}
    with attached(setting.model, adapters) as site:
        n = len(adapters)
        about["before"] = judge(setting, site, torch.full((n, len(site.modules)), 1.0 / n, dtype=torch.float64))
        found = _searched(setting, site, search, n, progress, nested=variant == "nested")
        return tuple(_result(setting, site, names, found, place, about) for place in range(len(found.points)))


def _searched(setting: Setting, site: Site, search: Search, n: int, progress: Progress | None, *, nested: bool) -> Front:
    evaluations = (n - 1) * search.samples + search.points if nested else search.evaluations(n)
    measure = _measuring(setting, site, search, continued(progress, evaluations))
    if nested:
        return nested_front(measure, n, search)
    return front(measure, torch.eye(n, dtype=torch.float64), range(len(setting.tasks)), search)


def _measuring(setting: Setting, site: Site, search: Search, told: Told) -> Measure:
    """The metric of every example of some tasks at coefficients ``[n]`` that are the same in every module."""
    tasks = list(setting.tasks.values())

    def measure(coefficients: Tensor, chosen: Sequence[int]) -> list[Tensor]:
        site.coefficients = coefficients[:, None].expand(-1, len(site.modules))
        values = [each_measured(tasks[index], setting.model, search.metric.measured) for index in chosen]
        told(0.0)
        return values

    return measure


def _result(
    setting: Setting, site: Site, names: Sequence[str], found: Front, place: int, about: dict[str, Any]
) -> Coefficients:
    values = found.points[place][:, None].expand(-1, len(site.modules))
    predicted = dict(zip(setting.tasks, found.predicted[place].tolist(), strict=True))
    return learned(site, names, values, {**about, "predicted": predicted, "after": judge(setting, site, values)})
