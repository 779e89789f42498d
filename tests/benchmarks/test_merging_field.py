"""The field's table on fabricated accuracies: what is tried, how a setting is chosen, what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterbank.calibration.procedures import find as find_procedure
from adapterbank.lora.delta import delta
from adapterbank.merge.methods import METHODS
from adapterbank.merge.options import parse_options
from adapterbank.merge.preparation import Prepare
from benchmarks.merging import __main__ as command
from benchmarks.merging import field, field_jobs, field_pages
from benchmarks.merging.field import Row, Table
from benchmarks.merging.field_halves import Source, _halves, digests, standard_error
from benchmarks.merging.field_jobs import OFF, ORIGINALS, Outcome
from benchmarks.merging.field_learned import LESSONS, learned_trials, weighted_trials
from benchmarks.merging.field_run import Runner
from benchmarks.merging.field_trials import SAME, Trial, grid
from tests.adapters import write_adapter

TASKS = ("one", "two")
WEIGHTED = weighted_trials({"one": 0.9, "two": 0.7})
LEARNED = [trial for lesson in LESSONS for trial in learned_trials(lesson)]


def row(name: str, test: float, rank: int = 16, validation: float = 0.5, **more: Any) -> Row:
    return Row(name, "scale 1", rank, dict.fromkeys(TASKS, validation), Outcome(dict.fromkeys(TASKS, test), 0.5, 1000), **more)


def table(*rows: Row, without: dict[str, str] | None = None) -> Table:
    ends = (row(OFF, 0.6, 0), row(ORIGINALS, 0.8, 0))
    return Table(Source(Path("nowhere")), tuple(sorted([*ends, *rows], key=lambda one: -one.test)), without or {})


def test_every_method_has_trials_or_a_reason() -> None:
    tried = {trial.method for trial in [*grid(), *WEIGHTED, *LEARNED]}
    assert tried | SAME.keys() | {"greedy_soup"} == METHODS.keys()
    assert not tried & SAME.keys()


@pytest.mark.parametrize("trial", [*grid(), *WEIGHTED, *LEARNED], ids=lambda trial: f"{trial.method}-{trial.setting}")
def test_every_trial_is_a_merge_that_exists(trial: Trial) -> None:
    parse_options(trial.method, METHODS[trial.method].options, trial.options)
    assert [Prepare.of(name).name for name in trial.prepare] == list(trial.prepare)
    assert trial.lesson in {None, *(lesson.name for lesson in LESSONS)}
    assert bool(trial.lesson) == (bool(METHODS[trial.method].needs) and trial.method != "metrics_weighted")


def test_no_trial_is_made_twice_and_quick_takes_some_of_them() -> None:
    asked = [repr(trial) for trial in grid()]
    assert len(set(asked)) == len(asked)
    assert {repr(trial) for trial in grid(quick=True)} < set(asked)


def test_every_lesson_is_a_calibration_that_exists() -> None:
    for lesson in LESSONS:
        procedure = find_procedure(lesson.procedure)
        parse_options(lesson.procedure, procedure.options, lesson.options)


def test_better_adapters_weigh_more() -> None:
    assert all(trial.weights[0] > trial.weights[1] for trial in WEIGHTED if isinstance(trial.weights, tuple))


def test_halves_are_disjoint_and_the_same_again() -> None:
    source = Source(Path("nowhere"), validation=30, test=40)
    found = _halves(100, source)
    assert found == _halves(100, source)
    assert [len(set(found[half])) for half in ("validation", "test")] == [30, 40]
    assert not set(found["validation"]) & set(found["test"])
    few = _halves(51, source)
    assert len(few["validation"]) == 26 and len(few["test"]) == 25, "a task with fewer sentences gives what it has"


def test_a_trial_merges_the_adapters_of_the_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(TASKS):
        write_adapter(tmp_path / "r16" / name, seed=seed)
    source = Source(tmp_path)
    adapters = source.read().adapters
    found = field_jobs.merged(source, tmp_path, Trial("task_arithmetic", {"scale": 0.5}, 64, weights=(1.0, 3.0))).adapter
    for module, factors in found.modules.items():
        expected = 0.5 * delta(adapters["one"].modules[module]) + 1.5 * delta(adapters["two"].modules[module])
        torch.testing.assert_close(delta(factors).float(), expected.float(), atol=1e-5, rtol=1e-4)
    assert len(set(digests(TASKS))) == 2


def test_adapters_that_a_method_refuses_are_an_outcome(tmp_path: Path) -> None:
    for seed, name in enumerate(TASKS):
        write_adapter(tmp_path / "r16" / name, seed=seed)
    found = field_jobs.judged(Source(tmp_path), tmp_path, Trial("ties", {"density": 7.0}), "validation")
    assert not found.scores
    assert "density" in found.refused


@contextmanager
def threads(count: int) -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def judged(source: Source, work: Path, trial: Trial, half: str) -> Outcome:
    """λ of .3 is best on the validation half, another on the test half, which must not choose."""
    scale = trial.options.get("scale", 0.1)
    return Outcome(dict.fromkeys(TASKS, 0.7 - abs(scale - 0.3) if half == "validation" else 0.5 + scale), 1.0, 10)


def apart(source: Source, name: str) -> tuple[Outcome, Outcome]:
    found = Outcome(dict.fromkeys(TASKS, {ORIGINALS: 0.9, OFF: 0.4}.get(name, 0.85)))
    return found, found


@pytest.fixture
def fabricated(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    asked: list[Trial] = []

    def counted(source: Source, work: Path, trial: Trial, half: str) -> Outcome:
        asked.append(trial)
        return judged(source, work, trial, half)

    monkeypatch.setattr(field, "processes", threads)
    monkeypatch.setattr(field_jobs, "judged", counted)
    monkeypatch.setattr(field_jobs, "apart", apart)
    return asked


def test_settings_are_chosen_on_the_validation_half(fabricated: list[Trial]) -> None:
    found = field.measure(Source(Path("nowhere")), lambda _: None, learned=())
    best = next(one for one in found.merges if (one.name, one.rank, one.prepared) == ("task_arithmetic", 16, ""))
    assert best.setting.startswith("scale 0.3")
    assert best.test == pytest.approx(0.8)
    assert best.tried == sum(trial.row == best_row for trial in grid() for best_row in [("task_arithmetic", 16, "")])
    assert [one.test for one in found.rows] == sorted((one.test for one in found.rows), reverse=True)
    assert len(fabricated) == len(grid()) + len(WEIGHTED) + len(found.merges), "one look at the test half for each row"


def test_every_method_has_a_row_or_is_said_to_have_none(fabricated: list[Trial]) -> None:
    found = field.measure(Source(Path("nowhere")), lambda _: None, learned=())
    assert {one.name for one in found.merges} | found.without.keys() == METHODS.keys()
    assert not {one.name for one in found.merges} & found.without.keys()


def test_a_run_that_was_cut_off_goes_on(fabricated: list[Trial], tmp_path: Path) -> None:
    first = field.measure(Source(Path("nowhere")), lambda _: None, tmp_path, learned=())
    asked = len(fabricated)
    assert field.measure(Source(Path("nowhere")), lambda _: None, tmp_path, learned=()) == first
    assert len(fabricated) == asked
    other = Source(Path("nowhere"), seed=1)
    field.measure(other, lambda _: None, tmp_path, learned=())
    assert len(fabricated) == 2 * asked, "other halves are other results"


def test_what_a_process_gives_back_is_kept_as_it_was(tmp_path: Path) -> None:
    found = (Trial("greedy_soup", weights=(1.0, 0.0), found="kept one"), 2.5)
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.merging.field_learned.soup_trial", lambda source, alone: found)
        for _ in range(2):
            assert Runner(Source(Path("nowhere")), tmp_path, pool, lambda _: None).soup({"one": 1.0}) == found


def test_the_table_is_sorted_and_says_what_share_of_the_gap_is_closed() -> None:
    found = table(row("average", 0.7), row("ties", 0.75, learning=12.0))
    lines = field_pages.table(found).splitlines()[2:]
    assert [line.split(" | ")[0].strip("| *`") for line in lines] == [ORIGINALS, "ties", "average", OFF]
    assert lines[1] == "| `ties` | scale 1 | 16 | 50.0 | 75.0 | 75 % | 0.5 + 12 |"
    assert "0 %" in lines[3]
    figures = found.report().document()["figures"]
    assert [round(one["gap_closed"], 2) for one in figures] == [1.0, 0.75, 0.5, 0.0]
    prepared = field_pages.table(table(row("ties", 0.7, prepared="pico")))
    assert "| `ties` after pico | scale 1 |" in prepared


def test_the_verdict_names_the_best_the_error_and_what_the_average_beats() -> None:
    found = table(row("wide", 0.79, 128), row("best", 0.75), row("average", 0.7), row("bad", 0.61), without={"soup": "no mask"})
    said = field_pages.verdict(found)
    assert "**`wide` (scale 1) at rank 128** closes most of the gap on the test half: 95 %" in said
    assert "At rank 16 it is **`best` (scale 1) at rank 16**: 75 %" in said
    assert "0 other rows are within 1.5 points" in said
    assert "The plain average gives 70.0 %; below it: `bad`." in said
    assert "- `soup` has no row: no mask." in said


def test_the_standard_error_is_that_of_a_mean_of_shares() -> None:
    assert standard_error({"one": 0.5}, 100) == pytest.approx(0.05)
    assert standard_error(dict.fromkeys(range(4), 0.5), 100) == pytest.approx(0.025)  # type: ignore[arg-type]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = field_pages.draw(table(row("average", 0.7)), tmp_path / "docs")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_the_data_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["field", "--data", str(tmp_path)])
    assert stopped.value.code == 2
    assert "r16" in capsys.readouterr().err
