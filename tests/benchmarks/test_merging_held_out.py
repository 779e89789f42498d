"""The benchmark of objectives: what it asks of the command line, and what it makes of the answers."""

import json

from adapterbank.calibration.procedures import PROCEDURES
from adapterbank.merge import all_methods
from benchmarks.harness import Report
from benchmarks.merging import held_out
from benchmarks.merging.held_out import LESSONS, Lesson


def measured(objective, own, rank, before, after):
    return {"objective": objective, "own": own, "rank": rank, "before": before, "after": after}


def figures(lesson, points=()):
    rows = [measured("entropy", True, rank, 0.5, 0.25) for rank in (None, 16)]
    rows += [measured(name, False, rank, 0.75, 0.125) for name in ("accuracy", "likelihood") for rank in (None, 16)]
    told = {"measured": rows, "points": list(points), "examples": 4}
    row = {"lesson": lesson.name, "method": lesson.method, "options": dict(lesson.options), "sentences": lesson.sentences}
    return {**row, "seconds": 61.4, "replay": "bits", "held_out": told}


def test_every_method_that_learns_is_run_and_with_options_that_it_has():
    learning = {
        name for name, method in all_methods().items() if {"coefficients", "gram", "gram_merged", "fisher"} & {*method.needs}
    }
    assert {lesson.method for lesson in LESSONS} == learning
    assert len({lesson.name for lesson in LESSONS}) == len(LESSONS)
    for lesson in LESSONS:
        known = {option.name for option in PROCEDURES[lesson.method].options} if lesson.method in PROCEDURES else set()
        assert set(lesson.options) <= known, lesson.name


def test_a_line_for_every_own_figure_and_the_accuracy_and_one_for_every_point():
    lesson = Lesson("a", "adamerging", {"steps": 3}, 8)
    point = {
        "number": 1,
        "value": 0.5,
        "tasks": dict.fromkeys(["cola@1", "cr@1", "sst2@1", "trec@1"], 0.5),
        "non_dominated": False,
    }
    report = Report("x", {}, [figures(lesson, [point])])
    lines = held_out.table(report).splitlines()[2:]
    assert lines == [
        "| `adamerging` | steps 3 | 32 | 4 | entropy | 0.5 | 0.25 | 0.5 | 0.25 | 61 | bits |",
        "|  | | |  | *accuracy* | 0.75 | 0.125 | 0.75 | 0.125 |  |  |",
    ]
    assert held_out.points(report).splitlines()[2:] == ["| `a` | 1 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | dominated |"]


def test_a_run_that_was_cut_off_goes_on_and_quick_takes_one(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(held_out.Desk, "opened", lambda self: self)
    monkeypatch.setattr(held_out, "row", lambda desk, lesson: done.append(lesson.name) or figures(lesson))
    (tmp_path / f"{LESSONS[1].name}.json").write_text(json.dumps(figures(LESSONS[1])))
    report = held_out.measure(tmp_path, lambda line: None, tmp_path)
    assert done == [lesson.name for lesson in LESSONS if lesson is not LESSONS[1]]
    assert [row["lesson"] for row in report.figures] == [lesson.name for lesson in LESSONS]
    done.clear()
    assert [row["sentences"] for row in held_out.measure(tmp_path, lambda line: None, quick=True).figures] == [16]
    assert done == [LESSONS[0].name]
