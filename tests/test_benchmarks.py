"""Every benchmark runs at toy size and stores what it says it stores; how fast is no matter here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import adapters, catalog, fit, harness, memory, reconstruct, register
from benchmarks.harness import Report, Spread, Target

ROOT = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads /proc")
TOY: dict[str, Callable[[Path], Report]] = {
    "register": lambda place: register.measure([0.05], adapters=4, rounds=2, folder=place),
    "catalog": lambda place: catalog.measure(count=100, lookups=5, rounds=2, folder=place),
    "fit": lambda place: fit.measure(rows=8192, rounds=2, layers=0, folder=place),
    "reconstruct": lambda place: reconstruct.measure(rows=512, rounds=2),
    "memory": lambda place: memory.measure(adapters=2, layers=1, gauges=["svd"], folder=place),
}
CASES = {
    "register": ["single", "bulk"],
    "catalog": ["fill", "name", "name@number", "name@alias", "sha256:prefix", *catalog.LISTS, "register"],
    "fit": ["against a copy", "against a copy"],
    "memory": ["register", "build, gauge svd"],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=LINUX) if name == "memory" else name for name in TOY])
def test_it_measures_every_case_and_stores_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling takes 20 s, and doing without must work too
    report = TOY[name](tmp_path)
    stored = json.loads(report.store(tmp_path / "results").read_text())
    assert {"benchmark", "date", "machine", "load", "versions", "settings", "figures", "targets"} == set(stored)
    assert {"cpu", "cores", "memory_gib", "system"} <= set(stored["machine"])
    assert {"python", "torch", "sqlite"} <= set(stored["versions"])
    cases = [row["case"] for row in stored["figures"]]
    assert cases == CASES[name] if name in CASES else {"copy", "blocks"} <= set(cases)
    assert {target["met"] for target in stored["targets"]} <= {True, False}
    assert name in report.text()
    assert str(tmp_path) not in json.dumps(stored)


def test_every_module_is_run_by_the_whole(tmp_path: Path) -> None:
    from benchmarks.__main__ import BENCHMARKS

    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    modules -= {"__init__", "__main__", "harness", "adapters"}
    modules -= {"fidelity", "predictions", "widths"}  # have a target of their own: they need a folder of real adapters
    assert set(BENCHMARKS) == modules == set(TOY)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no benchmark is called nothing" in done.stderr


def test_a_spread_holds_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5.0, 5)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0, 1)


def test_jobs_take_turns_and_change_their_order() -> None:
    called: list[str] = []
    jobs = {name: lambda number, name=name: called.append(f"{name}{number}") for name in "ab"}
    taken = harness.interleaved(jobs, 2, lambda number: called.append(f"before{number}"))
    assert called == ["before0", "a0", "b0", "before1", "b1", "a1"]
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_within_a_round() -> None:
    assert harness.ratios([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]).median == 3.0
    assert harness.differences([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]).median == 3.0


@pytest.mark.parametrize(("at_least", "met"), [(False, True), (True, False)])
def test_a_target_knows_its_direction(at_least: bool, met: bool) -> None:
    assert Target("ratio", 1.0, 1.5, at_least).met is met


def test_the_model_of_the_memory_benchmark_has_the_parameters_it_says() -> None:
    parameters = sum(16 * (d_out + d_in) for d_out, d_in in adapters.llama_8b().values())
    assert parameters == 41_943_040
