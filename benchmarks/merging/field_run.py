"""The jobs of the field's table shared out to processes, and what each gave kept in a file: a run that is cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.merging import field_jobs, field_learned
from benchmarks.merging.field_halves import Half, Scores, Source
from benchmarks.merging.field_jobs import Outcome
from benchmarks.merging.field_learned import Lesson
from benchmarks.merging.field_trials import Trial

Job = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """``work`` is a folder for what is learned and for the file of results."""

    source: Source
    work: Path
    pool: Executor
    told: Callable[[str], None]

    def trials(self, trials: Sequence[Trial], half: Half) -> list[Outcome]:
        """The outcome of every trial on one half."""
        jobs = {_key("trial", half, asdict(trial)): (field_jobs.judged, (trial, half)) for trial in trials}
        found = self._done({key: (function, (self.source, self.work, *rest)) for key, (function, rest) in jobs.items()})
        return [Outcome(**found[_key("trial", half, asdict(trial))]) for trial in trials]

    def apart(self, names: Sequence[str]) -> list[tuple[Outcome, Outcome]]:
        """The outcome of every way to keep the adapters apart, on both halves."""
        jobs: dict[str, Job] = {_key("apart", "both", name): (field_jobs.apart, (self.source, name)) for name in names}
        found = self._done(jobs)
        pairs = (found[_key("apart", "both", name)] for name in names)
        return [(Outcome(**validation), Outcome(**test)) for validation, test in pairs]

    def lessons(self, lessons: Sequence[Lesson]) -> dict[str, float]:
        """The processor's seconds of every calibration; its artefacts are in the folder."""
        jobs: dict[str, Job] = {
            _key("lesson", "validation", asdict(lesson)): (field_learned.learn, (self.source, lesson, self.work))
            for lesson in lessons
        }
        found = self._done(jobs)
        return {lesson.name: found[_key("lesson", "validation", asdict(lesson))] for lesson in lessons}

    def soup(self, alone: Scores) -> tuple[Trial, float]:
        """The greedy soup of adapters with these accuracies, and the processor's seconds that it took to find it."""
        key = _key("soup", "validation", alone)
        trial, seconds = self._done({key: (field_learned.soup_trial, (self.source, alone))})[key]
        given = trial if isinstance(trial, Trial) else Trial(**trial)
        return replace(given, weights=tuple(given.weights), prepare=tuple(given.prepare)), seconds  # type: ignore[arg-type]

    def _done(self, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Results by key: those in the file, and the others computed and written to it at once."""
        known = self._known()
        new = {key: job for key, job in jobs.items() if key not in known}
        futures = {self.pool.submit(function, *given): key for key, (function, given) in new.items()}
        for number, future in enumerate(as_completed(futures), start=1):
            key, plain = futures[future], _plain(future.result())
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._about, key, plain]) + "\n")
            known[key] = plain
            self.told(f"{number}/{len(new)} {key}")
        return {key: known[key] for key in jobs}

    @property
    def _file(self) -> Path:
        return self.work / "results.jsonl"

    @property
    def _about(self) -> list[Any]:
        return [self.source.family, self.source.validation, self.source.test, self.source.seed]

    def _known(self) -> dict[str, Any]:
        """What the file has of this source."""
        if not self._file.exists():
            return {}
        rows = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
        return {key: value for about, key, value in rows if about == self._about}


def _key(*parts: Any) -> str:
    return json.dumps(parts)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return json.loads(json.dumps(asdict(value))) if isinstance(value, Outcome | Trial) else value
