"""The field's table: what every merge method is worth on the tasks of the adapters it merged, on a half it was not chosen on.

Settings are chosen by the mean accuracy on the validation half, at each output rank; the chosen one is judged once on the test
half. Beside them: the adapters each on its own task, no adapter, and what keeps all adapters apart in few bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness import Report
from benchmarks.merging.field_halves import Scores, Source, standard_error
from benchmarks.merging.field_jobs import APART, OFF, ORIGINALS, Outcome
from benchmarks.merging.field_learned import LESSONS, learned_trials, weighted_trials
from benchmarks.merging.field_run import Runner
from benchmarks.merging.field_trials import SAME, Trial, grid
from benchmarks.rate_distortion.packing import processes

QUICK = 16  # sentences of a task in each half
SOUP = "greedy_soup"
LEARNED = (SOUP, *(lesson.name for lesson in LESSONS))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; ``rank`` 0: nothing was merged. ``tried`` settings competed for it.

    ``prepared`` is what was done to the adapters before, in words.
    """

    name: str
    setting: str
    rank: int
    validation: Scores
    outcome: Outcome
    tried: int = 1
    learning: float = 0.0
    prepared: str = ""

    @property
    def test(self) -> float:
        """Mean accuracy over the tasks of the test half."""
        return mean(self.outcome.scores.values())

    def figures(self, lines: int) -> dict[str, Any]:
        """The line as JSON values."""
        return {
            "method": self.name,
            "prepared": self.prepared,
            "setting": self.setting,
            "rank": self.rank,
            "settings_tried": self.tried,
            "validation": mean(self.validation.values()),
            "test": self.test,
            "standard_error": standard_error(self.outcome.scores, lines),
            "tasks": self.outcome.scores,
            "cpu_seconds": self.outcome.seconds,
            "learning_cpu_seconds": self.learning,
            "bytes": self.outcome.size,
        }


@dataclass(frozen=True, slots=True)
class Table:
    """All rows, best on the test half first; methods ``without`` a row, with their reasons."""

    source: Source
    rows: tuple[Row, ...]
    without: Mapping[str, str]

    @property
    def merges(self) -> list[Row]:
        """Rows of merges only."""
        return [row for row in self.rows if row.rank]

    def closed(self, row: Row) -> float:
        """The share of the gap between no adapter and the originals that a row closes on the test half."""
        ends = {row.name: row.test for row in self.rows if row.name in (OFF, ORIGINALS)}
        return (row.test - ends[OFF]) / (ends[ORIGINALS] - ends[OFF])

    def report(self) -> Report:
        """As it is printed and stored."""
        source = self.source
        settings = {"family": source.family, "seed": source.seed, "validation": source.validation, "test": source.test}
        rows = [row.figures(source.test) | {"gap_closed": self.closed(row)} for row in self.rows]
        return Report(
            "merging_field", settings, rows + [{"method": name, "without": why} for name, why in self.without.items()]
        )


def measure(
    source: Source,
    told: Callable[[str], None],
    work: Path | None = None,
    quick: bool = False,
    learned: Sequence[str] = LEARNED,
) -> Table:
    """The table. ``work`` is a folder in which a run that was cut off finds its results; ``quick`` takes a part of it.

    ``learned`` names the lessons to be learned, of :data:`LEARNED`; what is not among them gets no row.
    """
    source = replace(source, validation=QUICK, test=QUICK) if quick else source
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, processes(min(2, cores)) as pool:
        runner = Runner(source, work or Path(folder), pool, told)
        apart = list(_apart(runner, APART[:2] if quick else APART))
        alone = apart[0].validation
        rows, without = _chosen(runner, grid(quick) + ([] if quick else weighted_trials(alone)), {})
        more, reasons = _learned(runner, alone, () if quick else learned)
    rows += more
    without |= SAME | reasons | _left_out({row.name for row in rows}, learned)
    return Table(source, tuple(sorted([*apart, *rows], key=lambda row: (-row.test, row.name))), without)


def _left_out(measured: Collection[str], learned: Sequence[str]) -> dict[str, str]:
    """Methods whose lesson was not asked for."""
    methods = {trial.method for lesson in LESSONS if lesson.name not in learned for trial in learned_trials(lesson)}
    methods |= {SOUP} - {*learned}
    return {name: "nothing was learned for it in this run" for name in sorted(methods) if name not in measured}


def _apart(runner: Runner, names: Sequence[str]) -> Iterator[Row]:
    found = zip(names, runner.apart(names), strict=True)
    return (Row(name, "", 0, validation.scores, test) for name, (validation, test) in found)


def _learned(runner: Runner, alone: Scores, names: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """Rows of methods that learn."""
    lessons = [lesson for lesson in LESSONS if lesson.name in names]
    learning = runner.lessons(lessons)
    trials = [trial for lesson in lessons for trial in learned_trials(lesson)]
    if SOUP in names:
        soup, learning[SOUP] = runner.soup(alone)
        trials.append(soup)
    return _chosen(runner, trials, learning)


def _chosen(runner: Runner, trials: Sequence[Trial], learning: Mapping[str, float]) -> tuple[list[Row], dict[str, str]]:
    """The best trial of every row on the validation half, judged on the other; reasons of the methods that refused."""
    outcomes = dict(zip(range(len(trials)), runner.trials(trials, "validation"), strict=True))
    refused = {
        trials[number].method: f"it refuses these adapters ({found.refused})"
        for number, found in outcomes.items()
        if found.refused
    }
    rows: dict[tuple[str, int, str], list[int]] = {}
    for number, found in outcomes.items():
        if not found.refused:
            rows.setdefault(trials[number].row, []).append(number)
    best = {row: max(numbers, key=lambda n: mean(outcomes[n].scores.values())) for row, numbers in rows.items()}
    tests = runner.trials([trials[number] for number in best.values()], "test")
    made = []
    for (row, number), test in zip(best.items(), tests, strict=True):
        trial = trials[number]
        cost = learning.get(trial.lesson or trial.method, 0.0)
        name, rank, prepared = row
        made.append(Row(name, trial.setting, rank, outcomes[number].scores, test, len(rows[row]), cost, prepared))
    return made, refused
