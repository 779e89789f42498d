"""MAP's search (arXiv 2406.07529) without a model: measure at some coefficients, fit, read the front off, measure that too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapterbank.calibration.bayesian_samples import next_points
from adapterbank.calibration.coefficient_samples import mixed, sobol
from adapterbank.calibration.non_dominated import apart, non_dominated, spread, standard_errors
from adapterbank.calibration.surrogates import Surrogate, fit, parameter_count

Measure = Callable[[Tensor, Sequence[int]], Sequence[Tensor]]  # coefficients [n] and which tasks -> the metric of each example
Group = tuple[Tensor, tuple[int, ...]]  # the coefficients of some adapters and their tasks
MetricName = Literal["accuracy", "loss", "entropy"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured per task: its name in a judgement, the link of its surrogate, and the sign that makes larger better."""

    measured: Literal["accuracy", "cross_entropy", "entropy"]
    link: str
    sign: float


METRICS: Mapping[MetricName, Metric] = {
    "accuracy": Metric("accuracy", "sigmoid", 1.0),
    "loss": Metric("cross_entropy", "softplus", -1.0),
    "entropy": Metric("entropy", "softplus", -1.0),
}


@dataclass(frozen=True, slots=True)
class Search:
    """How a front is looked for.

    ``samples``: evaluations per fit, 0 for twice the number of parameters; ``rounds`` more of ``batch`` each where the fit errs
    (angles cut into ``bins``). ``candidates`` Sobol points of [lower, upper]ⁿ are asked for the front, of which ``points`` are
    evaluated and at most as many returned. ``isotropic`` and ``one_hot`` are shares of the samples of these kinds.
    What another point beats but for ``tolerance`` standard errors of their difference is not returned, nor what differs by no
    more from a point of a better mean; the best mean always is.
    """

    metric: Metric
    samples: int = 0
    rounds: int = 0
    batch: int = 10
    bins: int = 4
    candidates: int = 4096
    points: int = 8
    lower: float = 0.0
    upper: float = 1.0
    isotropic: float = 0.2
    one_hot: float = 0.2
    tolerance: float = 0.0
    seed: int = 0

    def count(self, n: int) -> int:
        """Evaluations before the first fit in ``n`` coefficients."""
        return self.samples or 2 * parameter_count(n)

    def evaluations(self, n: int) -> int:
        """All evaluations of a front in ``n`` coefficients, at most."""
        return self.count(n) + self.rounds * self.batch + self.points

    def boxed(self, unit: Tensor) -> Tensor:
        """Points of [0, 1]ⁿ as points of the bounds; those beyond are cut off."""
        return self.lower + (self.upper - self.lower) * unit.clamp(0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Coefficients ``points [m, n]`` with the metrics of the tasks, ``measured`` and as the surrogates ``predicted`` them."""

    points: Tensor
    measured: Tensor
    predicted: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Evaluated ``places [m, k]`` in the span of ``basis [k, n]``, the metrics there of every example by task ``[m, J_t]``, and
    the surrogates of their means."""

    basis: Tensor
    places: Tensor
    examples: Sequence[Tensor]
    surrogates: Sequence[Surrogate]

    @property
    def values(self) -> Tensor:
        """The metrics ``[m, T]``."""
        return torch.stack([own.mean(dim=1) for own in self.examples], dim=1)

    def predicted(self, places: Tensor) -> Tensor:
        """The metrics ``[m, T]`` expected at ``places [m, k]``."""
        return torch.stack([surrogate(places) for surrogate in self.surrogates], dim=1)


def fitted(measure: Measure, basis: Tensor, tasks: Sequence[int], search: Search) -> Fitted:
    """Evaluate coefficients ``z @ basis`` on ``tasks`` and fit; then ``rounds`` times more where the fit errs."""
    k, draw = len(basis), torch.Generator().manual_seed(search.seed)
    new = search.boxed(mixed(search.count(k), k, search.seed, isotropic=search.isotropic, one_hot=search.one_hot))
    found = Fitted(basis, new[:0], (), ())
    for remaining in range(search.rounds, -1, -1):
        places, examples = torch.cat([found.places, new]), _measured(measure, basis, new, tasks, found.examples)
        means = [own.mean(dim=1) for own in examples]
        found = Fitted(basis, places, examples, [fit(places, column, search.metric.link) for column in means])
        if remaining:
            errors = (found.predicted(places) - found.values).abs().mean(dim=1)
            new = next_points(places, errors, search.batch, search.bins, draw).clamp(search.lower, search.upper)
    return found


def _measured(measure: Measure, basis: Tensor, places: Tensor, tasks: Sequence[int], before: Sequence[Tensor]) -> list[Tensor]:
    """The metric of every example by task, ``[m, J_t]``, of ``places`` below those that are known."""
    rows = [[own.reshape(1, -1) for own in measure(place @ basis, tasks)] for place in places]
    return [torch.cat([*before[t : t + 1], *(row[t] for row in rows)]) for t in range(len(tasks))]


def front(measure: Measure, basis: Tensor, tasks: Sequence[int], search: Search) -> Front:
    """The front over the span of ``basis``: nothing that was evaluated dominates it, and its first has the best mean of all."""
    found, sign = fitted(measure, basis, tasks, search), search.metric.sign
    candidates = search.boxed(sobol(search.candidates, len(basis), search.seed + 1))
    expected = sign * found.predicted(candidates)
    best = non_dominated(expected)
    chosen = candidates[best][spread(expected[best], search.points)]
    places = torch.cat([found.places, chosen])
    examples = _measured(measure, basis, chosen, tasks, found.examples)
    values = torch.stack([own.mean(dim=1) for own in examples], dim=1)
    noise = search.tolerance * standard_errors(examples)
    front_now = non_dominated(sign * values) & non_dominated(sign * values, noise) & apart(sign * values, noise)
    front_now[(sign * values).mean(dim=1).argmax()] = True
    kept = front_now.nonzero()[:, 0]
    kept = kept[spread(sign * values[kept], search.points)]
    kept = kept[(sign * values[kept]).mean(dim=1).argsort(descending=True, stable=True)]
    return Front(places[kept] @ basis, values[kept], found.predicted(places[kept]))


def nested_front(measure: Measure, n: int, search: Search) -> Front:
    """The front of the last of pairwise merges, task i being adapter i's: every fit has two coefficients.

    Neighbours are merged in the order given; of each pair the candidate with the largest sum of its tasks' metrics goes on.
    """
    groups: list[Group] = [(row, (index,)) for index, row in enumerate(torch.eye(n, dtype=torch.float64))]
    while len(groups) > 2:
        pairs = [groups[at : at + 2] for at in range(0, len(groups), 2)]
        groups = [pair[0] if len(pair) == 1 else _compromise(measure, pair, search) for pair in pairs]
    basis, tasks = torch.stack([row for row, _ in groups]), [task for _, own in groups for task in own]
    return front(measure, basis, tasks, search)


def _compromise(measure: Measure, pair: Sequence[Group], search: Search) -> Group:
    basis, tasks = torch.stack([row for row, _ in pair]), pair[0][1] + pair[1][1]
    found = fitted(measure, basis, tasks, search)
    candidates = search.boxed(sobol(search.candidates, 2, search.seed + 1))
    best = int((search.metric.sign * found.predicted(candidates)).sum(dim=1).argmax())
    return candidates[best] @ basis, tasks
