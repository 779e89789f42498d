"""What a merge costs: against PEFT, by the number of adapters, by the side of the module.

Every merge runs in a process of its own (:mod:`benchmarks.merging.once`); ours several times after a warm-up, of which the
median counts, PEFT's once, because it takes minutes. In the same run the result is held against a dense one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness import Report, Spread, Target
from benchmarks.merging.once import DENSITY, OURS, RANK

SIDE, QUICK_SIDE = 4096, 2048
COUNTS, SIDES = (2, 4, 8, 16, 32, 64), (512, 1024, 2048, 4096, 8192)
TIMES, GROWN_TIMES = 5, 3
GOALS = {("svd", 4): 300.0, ("svd", 32): 60.0, ("ties_svd", 4): 25.0, ("dare_linear_svd", 4): 25.0, ("dare_ties_svd", 4): 25.0}
CLOSE = 1.01  # of the least residual

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """``side`` of the module against PEFT; the largest of ``sides`` and ``counts`` that are grown to."""

    side: int = SIDE
    counts: Sequence[int] = COUNTS
    sides: Sequence[int] = SIDES
    wide: int = 32
    say: Say = print

    @classmethod
    def quick(cls, say: Say = print) -> Bench:
        """A module of a quarter of the size, and shorter rows; ratios are smaller there."""
        return cls(QUICK_SIDE, COUNTS[:4], SIDES[:3], say=say)


def measure(bench: Bench) -> Report:
    """All of it. Targets are set for the full size only."""
    figures = [row for part in (_against_peft(bench), _by_count(bench), _by_side(bench)) for row in part]
    settings = {"side": bench.side, "rank": RANK, "density": DENSITY, "dtype": "float32", "threads": torch.get_num_threads()}
    settings |= {"times": TIMES, "times_when_grown": GROWN_TIMES, "peft_times": 1}
    return Report("merging_speed", settings, figures, list(_targets(figures)) if bench.side == SIDE else [])


def _against_peft(bench: Bench) -> Iterator[dict[str, Any]]:
    cases = [(way, 4) for way in OURS] + [("svd", bench.wide)]
    for way, count in cases:
        bench.say(f"{way}, {count} adapters, {bench.side}×{bench.side}: ours")
        row: dict[str, Any] = {"case": "against peft", "way": way, "count": count, "side": bench.side}
        row |= _ours(way, count, bench.side)
        bench.say(f"{way}, {count} adapters: PEFT, then a dense SVD of the exact result")
        (theirs,) = _run("peft", way, count, bench.side)
        row |= {"peft_seconds": theirs["seconds"], "peft_peak_mib": theirs["peak_mib"]}
        row["faster"] = theirs["seconds"] / row["seconds"].median
        if way.endswith("svd"):
            row |= _run("accuracy", way, count, bench.side)[0]
        yield row


def _by_count(bench: Bench) -> Iterator[dict[str, Any]]:
    for way in ("svd", "ties_svd"):
        for count in bench.counts:
            bench.say(f"{way}, {count} adapters, {bench.side}×{bench.side}")
            yield {"case": "by count", "way": way, "count": count, "side": bench.side} | _ours(
                way, count, bench.side, GROWN_TIMES
            )


def _by_side(bench: Bench) -> Iterator[dict[str, Any]]:
    for way in ("svd", "ties_svd"):
        for side in bench.sides:
            bench.say(f"{way}, 4 adapters, {side}×{side}")
            yield {"case": "by side", "way": way, "count": 4, "side": side} | _ours(way, 4, side, GROWN_TIMES)


def _ours(way: str, count: int, side: int, times: int = TIMES) -> dict[str, Any]:
    runs = _run("ours", way, count, side, times)
    return {"seconds": Spread.of([run["seconds"] for run in runs]), "peak_mib": max(run["peak_mib"] for run in runs)}


def _run(tool: str, way: str, count: int, side: int, times: int = 1) -> list[dict[str, float]]:
    """A child process' measurements."""
    threads = torch.get_num_threads()
    given = {"tool": tool, "way": way, "count": count, "side": side, "times": times, "threads": threads}
    command = [sys.executable, "-m", "benchmarks.merging.once", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _targets(figures: Sequence[dict[str, Any]]) -> Iterator[Target]:
    for row in figures:
        if row["case"] != "against peft":
            continue
        what = f"{row['way']}, {row['count']} adapters"
        if (row["way"], row["count"]) in GOALS:
            yield Target(f"times as fast as PEFT, {what}", row["faster"], GOALS[row["way"], row["count"]], at_least=True)
            yield Target(f"of PEFT's memory, {what}", row["peak_mib"] / row["peft_peak_mib"], 1.0)
        if "over_least" in row:
            yield Target(f"of the least residual, {what}", row["over_least"], CLOSE)
