"""What some methods learn on the validation half before they merge: artefacts as files, or weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from adapterbank.calibration.procedures import find
from adapterbank.calibration.tasks import Setting
from adapterbank.demo.encoder import BATCH
from adapterbank.merge import merge
from adapterbank.merge.artefacts import Artefact, from_object
from adapterbank.merge.greedy import greedy
from adapterbank.merge.metrics import metric_weights
from adapterbank.merge.options import parse_options
from benchmarks.merging.field_halves import Scores, Source, digests
from benchmarks.merging.field_trials import Trial
from benchmarks.merging.tasks import setting


@dataclass(frozen=True, slots=True)
class Lesson:
    """A calibration: of each task the first ``sentences`` of the validation half, or fewer where there are fewer."""

    name: str
    procedure: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sentences: int = 96


LESSONS = (
    Lesson("gram", "gram"),
    Lesson("gram_merged", "gram_merged"),
    Lesson("fisher", "fisher", {"classes": "sampled"}, 64),
    Lesson("adamerging", "adamerging", {"lr": 0.02, "steps": 40}, 64),
    Lesson("adamerging_labels", "adamerging", {"lr": 0.02, "steps": 40, "objective": "cross_entropy"}, 64),
    Lesson("frank_wolfe", "frank_wolfe", {"max_iters": 10}, 32),
    Lesson("map", "map", {}, 32),
    Lesson("m2n2", "m2n2", {"generations": 60}, 32),
    Lesson("dam_rank_masks", "dam_rank_masks", {"max_steps": 20, "max_adamerging_steps": 20, "adamerging_lr": 0.02}, 32),
)


def learned_trials(lesson: Lesson) -> list[Trial]:
    """The merges that take what was learned."""
    known = ", ".join(f"{name} {value}" for name, value in lesson.options.items())
    method = {"gram": "regmean", "gram_merged": "regmean_plus_plus"}.get(lesson.name, lesson.procedure)
    ratios = (0.95, 0.7) if lesson.name == "gram" else ()
    options: list[dict[str, Any]] = [{"reduce_non_diagonal_ratio": ratio} for ratio in ratios] or [{}]
    return [Trial(method, each, lesson=lesson.name, found=known) for each in options]


def learn(source: Source, lesson: Lesson, work: Path) -> float:
    """Calibrate; the artefacts lie in ``work/NAME`` then. Returns the processor's seconds."""
    family = source.read()
    given = setting(list(family.adapters), source.data, source.family, source.seed).arranged(list(family.adapters))
    batches = max(1, min(lesson.sentences, source.validation) // BATCH)
    few = Setting(given.model, {ref: replace(task, batches=task.batches[:batches]) for ref, task in given.tasks.items()})
    start = time.process_time()
    names = digests(list(family.adapters))
    made = find(lesson.procedure).calibrate(few, list(family.adapters.values()), names, source.seed, None, **_options(lesson))
    seconds = time.process_time() - start
    folder = work / lesson.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, artefact in enumerate(made if find(lesson.procedure).makes != "coefficients" else made[:1]):
        (folder / f"{number:03d}.artefact").write_bytes(artefact.to_object())
    return seconds


def artefacts(work: Path, lesson: str) -> tuple[Artefact, ...]:
    """What :func:`learn` left."""
    return tuple(from_object(bytearray(path.read_bytes())) for path in sorted((work / lesson).glob("*.artefact")))


def weighted_trials(alone: Scores) -> list[Trial]:
    """Averages weighted by each original's accuracy on its own task."""
    made = []
    for beta in (0.5, 2.0):
        weights = metric_weights(list(alone.values()), form="penalty", beta=beta, larger_is_better=True)
        made.append(Trial("metrics_weighted", weights=weights, found=f"penalty, beta {beta:g}, of the accuracies"))
    return made


def soup_trial(source: Source, alone: Scores) -> tuple[Trial, float]:
    """The greedy soup, judged by the mean accuracy over all tasks of the validation half; the processor's seconds beside it."""
    adapters = source.read().adapters
    start = time.process_time()
    soup = greedy(alone, _averaged(source))
    weights = soup.weights(tuple(adapters))
    return Trial("greedy_soup", weights=weights, found=f"kept {', '.join(soup.kept)}"), time.process_time() - start


def _averaged(source: Source) -> Callable[[tuple[str, ...]], float]:
    adapters, judge = source.read().adapters, source.judge()

    def evaluate(kept: tuple[str, ...]) -> float:
        chosen = [adapters[name] for name in kept]
        merged = merge("average", chosen, [1.0] * len(kept), names=digests(kept), rank=16)
        return mean(judge.one("validation", merged.adapter).values())

    return evaluate


def _options(lesson: Lesson) -> dict[str, Any]:
    return dict(parse_options(lesson.procedure, find(lesson.procedure).options, lesson.options))
