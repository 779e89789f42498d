"""What a calibration is worth by its own objective on data that it did not see: of its start and of its result.

A table says for every procedure what it sets out to improve and where it starts. Both merges are measured before the cut to a
rank, and again as they are once both are cut. Of a procedure with several results, such as a front, every one is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterbank.calibration.attached import frozen
from adapterbank.calibration.delta_losses import fisher_loss, regmean_loss, regmean_loss_behind
from adapterbank.calibration.judging import Case, Measure, Score
from adapterbank.calibration.model_scores import answers, answers_and_gap
from adapterbank.calibration.non_dominated import non_dominated
from adapterbank.calibration.record import Progress
from adapterbank.calibration.surrogate_fronts import METRICS
from adapterbank.calibration.tasks import Setting
from adapterbank.lora.adapter import Adapter

Options = Mapping[str, Any]
LARGER_IS_BETTER = frozenset({"accuracy", "likelihood"})


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of both merges, also by task. ``own``: what the procedure sets out to improve; others only tell more. ``rank``
    is that to which both are cut, None where nothing is."""

    objective: str
    own: bool
    rank: int | None
    larger_is_better: bool
    before: float
    after: float
    tasks: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Point:
    """One of several results, by number from 1 in the order of the results: its objective, also by task; ``non_dominated``: no
    other point is as good on all tasks and better on one."""

    number: int
    value: float
    tasks: Mapping[str, float]
    non_dominated: bool


@dataclass(frozen=True, slots=True)
class HeldOut:
    """``start``: in words, what ``before`` is of. ``examples``: how many there are of all tasks together."""

    start: str
    examples: int
    measured: tuple[Measured, ...]
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A result and what to compare it with: the best of ``starts``; both cut to ``rank``, or not at all."""

    starts: Sequence[Adapter]
    result: Adapter
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Judging:
    """A row of the table: the names of the ``own`` figures of a procedure, the first of which ranks starts and points, as its
    options say; how they are measured; in words and as coefficients ``[k, n]`` where it starts, None for the average."""

    own: Callable[[Options], tuple[str, ...]]
    measuring: Callable[[Case], Measure]
    start: Callable[[Options], str] = lambda options: "average"
    coefficients: Callable[[Options, int], Tensor | None] = lambda options, n: None


def _level(value: float, count: int) -> Tensor:
    return torch.full((1, count), value, dtype=torch.float64)


def _initial(options: Options) -> float:
    init = float(options["init"])
    return min(max(init, 0.0), 1.0) if options["clamp"] else init


def _of_init(measured: Callable[[Options], tuple[str, ...]]) -> Judging:
    """Learned from coefficients that are all the same."""
    start = "every coefficient {:g}".format
    return Judging(measured, answers, lambda o: start(_initial(o)), lambda o, n: _level(_initial(o), n))


JUDGING: Mapping[str, Judging] = {
    "gram": Judging(lambda o: ("regmean_loss",), regmean_loss),
    "gram_merged": Judging(lambda o: ("regmean_loss",), regmean_loss_behind),
    "fisher": Judging(lambda o: ("fisher_loss",), fisher_loss),
    "adamerging": _of_init(lambda o: (o["objective"],)),
    "dam_rank_masks": _of_init(lambda o: ("entropy",)),
    "frank_wolfe": Judging(
        lambda o: ("gap", o["objective"]),
        answers_and_gap,
        lambda o: "average" if o["scale"] == 1.0 else f"average times {o['scale']:g}",
        lambda o, n: _level(o["scale"] / n, n),
    ),
    "map": Judging(lambda o: (METRICS[o["metric"]].measured,), answers, coefficients=lambda o, n: _level(1.0 / n, n)),
    "m2n2": Judging(
        lambda o: ("accuracy" if o["score"] == "correct" else "likelihood",),
        answers,
        lambda o: "the best adapter alone",
        lambda o, n: torch.eye(n, dtype=torch.float64),
    ),
}


def held_out(
    procedure: str, case: Case, pairs: Sequence[Pair], results: Sequence[Adapter] = (), progress: Progress | None = None
) -> HeldOut:
    """Every figure of each pair on the tasks of the case's setting; ``results`` (none, or several) become points.

    ``progress`` is told (merges measured, merges in all).
    """
    row, total, done = JUDGING[procedure], sum(len(pair.starts) + 1 for pair in pairs) + len(results), 0
    measure, own = row.measuring(case), row.own(case.options)

    def told(merged: Adapter) -> Mapping[str, Score]:
        nonlocal done
        found, done = measure(merged), done + 1
        if progress is not None:
            progress(done, total)
        return found

    rows = [each for pair in pairs for each in _compared([told(start) for start in pair.starts], told(pair.result), pair, own)]
    points = _points([told(result)[own[0]] for result in results], own[0])
    return HeldOut(row.start(case.options), examples(case.setting), tuple(rows), points)


def examples(setting: Setting) -> int:
    """How many examples the tasks have together."""
    return sum(_length(setting, task, batch) for task in setting.tasks.values() for batch in task.batches)


def _length(setting: Setting, task: Any, batch: Any) -> int:
    if task.labels is not None:
        return len(task.labels(batch))
    with torch.no_grad(), frozen(setting.model):
        return len(task.outputs(setting.model, batch))


def _compared(
    starts: Sequence[Mapping[str, Score]], result: Mapping[str, Score], pair: Pair, own: Sequence[str]
) -> list[Measured]:
    """A row per figure, own ones first; of the starts the best by the first of them counts."""
    sign = 1.0 if own[0] in LARGER_IS_BETTER else -1.0
    start = max(starts, key=lambda each: sign * each[own[0]].value)
    names = [*own, *(name for name in result if name not in own)]
    return [_row(name, start[name], result[name], pair, own) for name in names]


def _row(name: str, before: Score, after: Score, pair: Pair, own: Sequence[str]) -> Measured:
    tasks = {ref: (value, after.tasks[ref]) for ref, value in before.tasks.items()}
    return Measured(name, name in own, pair.rank, name in LARGER_IS_BETTER, before.value, after.value, tasks)


def _points(scores: Sequence[Score], name: str) -> tuple[Point, ...]:
    if not scores:
        return ()
    sign = 1.0 if name in LARGER_IS_BETTER else -1.0
    front = non_dominated(sign * torch.tensor([list(score.tasks.values()) for score in scores], dtype=torch.float64))
    numbered = enumerate(zip(scores, front.tolist(), strict=True), start=1)
    return tuple(Point(number, score.value, score.tasks, best) for number, (score, best) in numbered)
