"""The verdicts and tables on fabricated figures, and the refusals of the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapterbank.vault.compressed import compress
from benchmarks import fidelity
from benchmarks.baselines.published import KNOWN, Reproduced
from benchmarks.harness import Spread
from benchmarks.rate_distortion import tables, whole_bank
from benchmarks.rate_distortion.accuracies import OFF, ORIGINAL
from benchmarks.rate_distortion.curves import LEAST_ERROR
from benchmarks.rate_distortion.families import REAL, Family, real
from benchmarks.rate_distortion.goals import follower_savings, goals, savings
from benchmarks.rate_distortion.lossless import Lossless
from benchmarks.rate_distortion.measured import Bound, Measured, within
from benchmarks.rate_distortion.once import Once, weighed
from benchmarks.rate_distortion.plan import ERRORS, LIMITS, plans
from benchmarks.rate_distortion.points import ALONE, TOGETHER, Point
from benchmarks.rate_distortion.speed import Speed
from benchmarks.rate_distortion.whole_bank import WholeBank
from tests.adapters import write_adapter
from tests.benchmarks.synthetic import adapter

SPEED = Speed(29.0, 0.8, Spread.of([0.1, 0.2, 0.1]), 42_000_000, 0.8, 200.0, 6.0, 1.0)


def measured(name: str, points: list[Point], parents: dict[str, str] | None = None, **more: object) -> Measured:
    family = Family(name, f"the {name}", {f"v{i}": adapter(i) for i in range(1, 4)}, {}, parents=parents)
    return Measured(family, tuple(points), more.get("bounds", ()), more.get("accuracies", {}))  # type: ignore[arg-type]


def point(name: str, method: str, error: float, bits: float, sizes: tuple[int, ...] = (), **more: float) -> Point:
    return Point(name, method, f"error {error:g}", bits, error, error, sizes=sizes, errors=(error,) * len(sizes), **more)


def verdicts(found: list[Measured], once: Once | None = None) -> dict[str, bool]:
    return {goal.what: goal.met for goal in goals(found, once or Once())}


def test_sizes_are_judged_at_every_error_of_unrelated_adapters() -> None:
    within_limits = [point("r16", ALONE, e, bits - 0.001) for e, bits in zip(ERRORS, LIMITS, strict=True)]
    assert set(verdicts([measured("r16", within_limits)]).values()) == {True}
    over = [*within_limits[:-1], point("r16", ALONE, 0.08, 3.18)]
    assert [what for what, met in verdicts([measured("r16", over)]).items() if not met] == [
        "r16: bits at a mean error of at most 0.08"
    ]


def test_a_rival_that_is_not_above_is_a_miss() -> None:
    points = [point("r64", ALONE, 0.5, 1.0), point("r64", "SVD", 0.5, 2.0)]
    assert set(verdicts([measured("r64", points)]).values()) == {True}
    assert set(verdicts([measured("r64", [*points, point("r64", "int", 0.6, 0.9)])]).values()) == {False}


def test_sharing_is_saved_bytes_and_never_more() -> None:
    points = [point("r16_sharedinit", ALONE, e, 1.0) for e in (0.5, 0.15)]
    points += [point("r16_sharedinit", TOGETHER, 0.5, 1.01), point("r16_sharedinit", TOGETHER, 0.15, 0.93)]
    shared = measured("r16_sharedinit", points)
    assert savings(shared) == {0.5: pytest.approx(-0.01), 0.15: pytest.approx(0.07)}
    assert set(verdicts([shared]).values()) == {False}
    null = [point("null", ALONE, 0.5, 1.0), point("null", TOGETHER, 0.5, 1.004)]
    assert set(verdicts([measured("null", null)]).values()) == {True}


def test_a_version_is_judged_without_the_first() -> None:
    points = [point("chain", ALONE, 0.1, 1.0, (100, 100, 100)), point("chain", TOGETHER, 0.1, 0.6, (100, 30, 50))]
    chain = measured("chain", points, {"v2": "v1", "v3": "v2"})
    assert follower_savings(chain) == {0.1: pytest.approx(0.6)}
    assert list(verdicts([chain]).values()) == [True]
    assert "+60.0%" in tables.shared([chain])


def test_copies_must_have_one_size_and_one_error() -> None:
    assert list(verdicts([measured("copies", [point("copies", ALONE, 0.1, 1.0, (1000, 1009, 1000))])]).values()) == [True, True]
    assert list(verdicts([measured("copies", [point("copies", ALONE, 0.1, 1.0, (1000, 1011, 1000))])]).values()) == [
        False,
        True,
    ]


def test_accuracy_counts_only_forms_that_are_small_enough() -> None:
    tasks = [f"t{i}" for i in range(8)]
    exact = {ORIGINAL: dict.fromkeys(tasks, 0.86), OFF: dict.fromkeys(tasks, 0.68)}
    points = [point("r16", ALONE, 0.9, 0.23, accuracy=0.86), point("r16", ALONE, 0.95, 0.06, accuracy=0.84)]
    found = verdicts([measured("r16", points, accuracies=exact)])
    assert found == {"r16: mean accuracy at 0.22 bits": False, "r16: mean accuracy at 0.06 bits": True}
    few = {ORIGINAL: dict.fromkeys(tasks[:2], 0.86)}
    assert verdicts([measured("r16", points, accuracies=few)]) == {}, "means of other tasks are not what was promised"


def test_speed_the_lossless_level_and_the_bank_are_judged() -> None:
    once = Once(
        SPEED, (Lossless("r16", "float32", 8, 0.83), Lossless("r16", "bfloat16", 8, 0.69)), WholeBank(9, 100, 103, "2026-01-02")
    )
    missed = [what for what, met in verdicts([], once).items() if not met]
    assert missed == [
        "lossless, r16 as bfloat16", "seconds to decode 42 M parameters", "a bank of 9 adapters, larger than counted by",
    ]  # fmt: skip
    assert "(+3.00%), weighed 2026-01-02" in tables.once(once)
    json.dumps(once.rows())


def test_a_run_that_weighs_no_bank_tells_of_the_last_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(count: int) -> WholeBank | None:
        return weighed(Family("r16", "r16", {}, {}), count, tmp_path, print, None)

    monkeypatch.setattr(whole_bank, "measure", lambda _, count, *__: WholeBank(count, 100, 101, "2026-01-02"))
    assert at(0) is None
    few = at(30)
    assert few is not None and few.adapters == 30 and at(0) is None, "a small one is not kept"
    assert at(1000) == at(0) == WholeBank(1000, 100, 101, "2026-01-02")


def test_tables_name_what_reaches_an_error_and_what_nothing_does() -> None:
    points = [point("r16", ALONE, 0.5, 0.4, (50, 50, 50)), point("r16", "SVD", 0.4, 3.0), point("r16", "SVD", 0.6, 2.0)]
    made = measured("r16", points, bounds=(Bound(0.5, 0.35, 0.36),))
    lines = {line.split(" | ")[0].strip("| "): line for line in tables.sizes(made).splitlines()}
    assert lines["SVD"] == "| SVD | 2.000 | 3.000 | – | – | – | – | – | – |"
    assert lines["Gaussian Shannon bound"].startswith("| Gaussian Shannon bound | – | 0.350 | –")
    assert "| 0.5 | 0.400 |" in tables.distance(made)
    assert "SVD error 0.4 | 0.400 | 3.000 | – |" in tables.unbeaten([made]), "our curve does not go that far"
    assert tables.unbeaten([measured("r16", points[:1] + points[2:])]) == "None."
    json.dumps(made.rows())


def test_a_total_leaves_room_for_what_is_kept_beside() -> None:
    one = Family("f", "f", {"v": adapter(1)}, {"v": b"x" * 10})
    beside = 8 * (10 + 8) / one.parameters
    assert within(one, 4 * beside).bits == pytest.approx(3 * beside)
    assert within(one, beside).bits == beside


def test_a_family_is_read_from_its_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / "r16" / name, seed=seed)
    found = real(tmp_path, "r16")
    assert list(found.adapters) == ["one", "two"]
    assert found.config_bytes == len(compress(found.configs["one"]) or b""), "equal ones once, as the vault keeps them"
    assert list(found.first(1).adapters) == ["one"]


def test_without_the_data_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fidelity.main(["--data", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_nothing_is_measured_when_a_known_figure_is_not_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in REAL:
        write_adapter(tmp_path / name / "one")
    monkeypatch.setattr(fidelity, "absent", lambda: None)
    monkeypatch.setattr(fidelity, "reproduce", lambda _: [Reproduced(KNOWN[0], 0.7, 1.0)])
    with pytest.raises(SystemExit) as stopped:
        fidelity.main(["--data", str(tmp_path), "--results", str(tmp_path)])
    assert stopped.value.code == 1
    assert "NOT REPRODUCED" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))


def test_plans_have_names_of_their_own_and_cover_every_real_family(tmp_path: Path) -> None:
    names = [plan.name for plan in plans(tmp_path, quick=False)]
    assert len(set(names)) == len(names)
    assert set(REAL) < set(names)


def test_this_coder_is_measured_beside_every_point_of_a_rival(tmp_path: Path) -> None:
    for plan in plans(tmp_path, quick=False):
        errors = [target.max_error or 1.0 for target in plan.alone]
        assert plan.rivals and max(errors) >= 0.9 and min(errors) < LEAST_ERROR, plan.name
