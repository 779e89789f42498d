"""Every method that learns from data, run from the command line on four real adapters: its own objective on the other half.

One bank in an empty folder, one process per command, as a user would: register, ``merge METHOD … --with``, the artefacts that
this stored, ``replay``, ``export``, and of coefficients ``coefficients export``. Learned from one half of a task's sentences,
judged on the other by the command itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import Report

TASKS = ("cola", "cr", "sst2", "trec")
HOOK = f"{Path(__file__).resolve().parent / 'tasks.py'}:setting"
_PROGRAM = (sys.executable, "-c", "from adapterbank.cli.main import main; main()")
_HEAD = (
    "| method | options | learned from | judged by | figure | before | after | rank 16: before | after | seconds | replay |\n"
    "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A merge from data: ``options`` other than the defaults, learned from the first ``sentences`` of each task's half, judged
    by the first ``judges`` batches of the other."""

    name: str
    method: str
    options: Mapping[str, Any]
    sentences: int = 256
    judges: int = 16

    @property
    def words(self) -> list[str]:
        """The command line."""
        options = [word for key, value in self.options.items() for word in ("--option", f"{key}={value}")]
        return ["merge", self.method, *TASKS, "--name", self.name, "--with", HOOK, "--held-out", str(self.judges), *options]


LESSONS = (
    Lesson("regmean", "regmean", {}),
    Lesson("regmean-plus-plus", "regmean_plus_plus", {}),
    Lesson("fisher", "fisher", {}, 128, 8),
    Lesson("adamerging-layer", "adamerging", {"lr": 0.01, "steps": 60}),
    Lesson("adamerging-task", "adamerging", {"granularity": "task", "lr": 0.01, "steps": 60}, judges=8),
    Lesson("frank-wolfe-hard", "frank_wolfe", {}, 128),
    Lesson("frank-wolfe-soft", "frank_wolfe", {"variant": "soft", "max_iters": 2, "ada_iters": 20}, 64, 8),
    Lesson("map", "map", {}),
    Lesson("map-nested", "map", {"variant": "nested", "tolerance": 2.0}, 64, 8),
    Lesson("map-bayesian", "map", {"variant": "bayesian", "tolerance": 2.0}, 32, 8),
    Lesson("m2n2", "m2n2", {"generations": 60}, 64, 8),
    Lesson("dam", "dam_rank_masks", {"max_steps": 10, "max_adamerging_steps": 40, "adamerging_lr": 0.01}, 64, 8),
)


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with a bank, and the data that ``--with`` reads."""

    folder: Path
    data: Path

    def run(self, *words: str, sentences: int = 256) -> Any:
        """What a command prints with ``--json``. Raises RuntimeError with what it said if it failed."""
        own = {"ADAPTERBANK": str(self.folder / "bank"), "ADAPTERBANK_DATA": str(self.data), "ADAPTERBANK_HEADS": "r16"}
        environment = {**os.environ, **own, "ADAPTERBANK_SENTENCES": str(sentences)}
        ran = subprocess.run([*_PROGRAM, *words, "--json"], capture_output=True, text=True, env=environment, check=False)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit {ran.returncode}: {ran.stderr}")
        return json.loads(ran.stdout)

    def opened(self) -> Desk:
        """With a bank of the four adapters."""
        self.run("init")
        for task in TASKS:
            self.run("register", str(self.data / "r16" / task), "--name", task)
        return self


def measure(data: Path, told: Callable[[str], None], work: Path | None = None, quick: bool = False) -> Report:
    """All lessons. ``work`` is a folder in which a run that was cut off finds its rows, a file each; ``quick``: the first one
    only, learned from few sentences."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), data).opened()
        for lesson in [replace(LESSONS[0], sentences=16)] if quick else LESSONS:
            kept = (work or Path(folder)) / f"{lesson.name}.json"
            if not kept.exists():
                kept.write_text(json.dumps(row(desk, lesson)), encoding="utf-8")
            rows.append(json.loads(kept.read_text(encoding="utf-8")))
            told(f"{lesson.name}: {rows[-1]['seconds']:.0f} s")
    return Report("merging_held_out", {"family": "r16", "tasks": list(TASKS), "seed": 0}, rows)


def row(desk: Desk, lesson: Lesson) -> dict[str, Any]:
    """One lesson: what the command said, its seconds, what it stored, whether it comes again and goes out."""
    start = time.perf_counter()
    merged = desk.run(*lesson.words, sentences=lesson.sentences)
    seconds = time.perf_counter() - start
    ref = merged["ref"]
    explained = desk.run("explain", ref)["held_out"]
    assert explained == merged["held_out"], "explain shows what the merge printed"
    exported = desk.run("export", ref, str(desk.folder / lesson.name))
    found = {
        "lesson": lesson.name,
        "method": lesson.method,
        "options": dict(lesson.options),
        "sentences": lesson.sentences,
        "seconds": round(seconds, 1),
        "rank": merged["rank"],
        "residual": merged["residual"],
        "artefacts": len(merged["artefacts"]),
        "replay": desk.run("replay", ref)["outcome"],
        "exported_bytes": exported["bytes"],
        "held_out": merged["held_out"],
    }
    kept = desk.run("coefficients", "list", "--kind", lesson.method)["artefacts"]
    return found | (_coefficients(desk, lesson, merged) if kept else {})


def _coefficients(desk: Desk, lesson: Lesson, merged: Mapping[str, Any]) -> dict[str, Any]:
    """What ``coefficients`` has of the set that the merge used, and the LoRA that it makes of it."""
    (used,) = merged["artefacts"]
    shown = desk.run("coefficients", "show", used)
    means = {ref: round(sum(row.values()) / len(row), 4) for ref, row in shown["values"].items()}
    again = desk.run("coefficients", "export", used, "--name", lesson.name)
    return {"mean_coefficients": means, "export_of_coefficients": again["status"]}


def table(report: Report) -> str:
    """A line per method and own figure."""
    return "\n".join([_HEAD, *(line for row in report.figures for line in _lines(row))])


def points(report: Report) -> str:
    """A line per point of the methods that give several, with its loss on every task."""
    names = [f"{task}@1" for task in TASKS]
    lines = [f"| method | point | mean | {' | '.join(TASKS)} | |", f"|---|---:|---:|{'---:|' * len(TASKS)}---|"]
    for row in report.figures:
        for point in row["held_out"]["points"]:
            values = " | ".join(f"{point['tasks'][name]:.3f}" for name in names)
            verdict = "non-dominated" if point["non_dominated"] else "dominated"
            lines.append(f"| `{row['lesson']}` | {point['number']} | {point['value']:.3f} | {values} | {verdict} |")
    return "\n".join(lines)


def _lines(row: Mapping[str, Any]) -> list[str]:
    measured = [each for each in row["held_out"]["measured"] if each["own"] or each["objective"] == "accuracy"]
    whole = {each["objective"]: each for each in measured if each["rank"] is None}
    cut = {each["objective"]: each for each in measured if each["rank"] is not None}
    options = ", ".join(f"{key} {value}" for key, value in row["options"].items()) or "defaults"
    lines = []
    for name, each in whole.items():
        seen = f"{4 * row['sentences']} | {row['held_out']['examples']}"
        head = f"`{row['method']}` | {options} | {seen}" if not lines else " | | | "
        tail = f"{row['seconds']:.0f} | {row['replay']}" if not lines else " | "
        said = f"*{name}*" if not each["own"] else name
        figures = [each["before"], each["after"], cut[name]["before"], cut[name]["after"]]
        lines.append(f"| {head} | {said} | {' | '.join(f'{value:.4g}' for value in figures)} | {tail} |")
    return lines
