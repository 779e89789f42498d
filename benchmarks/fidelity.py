"""Bits against error: this coder beside every rival, on real and synthetic collections, everything counted.

    python -m benchmarks.fidelity [--data DIR] [--quick] [--whole-bank N] [--only NAME …] [--results DIR] [--docs DIR]

``--data`` is a folder of real adapters (families of PEFT directories, task heads, test sets, the evaluation script). First the
rivals must reproduce figures that are known for ``r16``, or nothing is measured. Everything is measured anew in every run but
the bank that is weighed, which takes as long as all else: with ``--whole-bank 0`` a full run tells of the last one, from
``whole_bank.json``, with its date. Figures go to ``fidelity.json``, and of a full run tables and pictures to ``docs``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.baselines.collection import Collection
from benchmarks.baselines.published import Reproduced, reproduce
from benchmarks.harness import RESULTS, Report, Target
from benchmarks.rate_distortion import tables
from benchmarks.rate_distortion.document import fill
from benchmarks.rate_distortion.encoder import Tasks, absent
from benchmarks.rate_distortion.families import Family, missing, real
from benchmarks.rate_distortion.goals import goals
from benchmarks.rate_distortion.measured import Bench, Measured, measured
from benchmarks.rate_distortion.once import Once, timed, weighed
from benchmarks.rate_distortion.packing import processes
from benchmarks.rate_distortion.plan import plans
from benchmarks.rate_distortion.plots import draw
from benchmarks.rate_distortion.whole_bank import FULL

ROOT = Path(__file__).resolve().parents[1]
DATA, DOCS = ROOT.parent / "shared" / "adapters", ROOT / "docs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store; the exit status is 1 if a rival does not reproduce what is known, 2 without the data."""
    given = _parser().parse_args(arguments)
    lacking = missing(given.data)
    if lacking or absent():
        what = absent() or f"{', '.join(lacking)} in {given.data.name}"
        print(f"no {what}: name a folder of adapters with --data, and install the extra 'bench'", file=sys.stderr)
        sys.exit(2)
    source = real(given.data, "r16")
    known = reproduce(Collection.of(source.adapters))
    print("\n".join(one.text() for one in known), flush=True)
    if not all(one.holds for one in known):
        sys.exit(1)
    _finish(given, known, *_run(given, source, _Clock()))


def _run(given: argparse.Namespace, source: Family, told: _Clock) -> tuple[list[Measured], Once]:
    """Every collection, and what is measured once."""
    with processes(_cores()) as pool:
        told("inputs of the modules")
        inputs = Tasks(given.data, "r16", list(source.adapters)).inputs()
        bench = Bench(given.data, pool, inputs, given.effort, given.quick, told)
        found = [measured(plan, bench) for plan in plans(given.data, given.quick) if not given.only or plan.name in given.only]
        once = Once() if given.quick or given.only else timed(given.data, source, given.effort, pool, told)
    part = given.quick or given.only
    count = (0 if part else FULL) if given.whole_bank is None else given.whole_bank
    told_of = None if part and not count else weighed(source, count, given.results, told, given.folder)
    return found, replace(once, bank=told_of)


def _finish(given: argparse.Namespace, known: Sequence[Reproduced], found: Sequence[Measured], once: Once) -> None:
    """Tables to the terminal, figures to JSON, and of a full run tables and pictures into the documents."""
    judged = goals(found, once)
    written = _tables(found, judged, once)
    print("\n\n".join(f"## {name}\n\n{table}" for name, table in written.items()), flush=True)
    settings = {"quick": given.quick, "only": given.only, "effort": given.effort, "processes": _cores()}
    figures = [{"case": "reproduced", "method": one.known.method, "error": one.error, "bits": one.bits} for one in known]
    figures += [row for one in found for row in one.rows()] + once.rows()
    whole = not given.quick and not given.only
    Report("fidelity" if whole else "fidelity-part", settings, figures, judged).store(given.results)
    if whole:
        draw(found, given.docs)
        for name in fill(given.docs / "fidelity.md", written):
            print(f"fidelity.md has no place for {name}", file=sys.stderr)


def _tables(found: Sequence[Measured], judged: Sequence[Target], once: Once) -> dict[str, str]:
    """Every table by the name of its place in the document."""
    written = {f"sizes {one.family.name}": tables.sizes(one) for one in found if one.is_shown}
    written |= {f"bound {one.family.name}": tables.distance(one) for one in found if one.family.name in ("r16", "clinc")}
    written |= {f"accuracy {one.family.name}": tables.accuracy(one) for one in found if one.accuracies}
    written |= {"rates": tables.rates(found), "unbeaten": tables.unbeaten(found), "shared": tables.shared(found)}
    return written | {"once": tables.once(once), "targets": tables.targets(judged)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Clock:
    """Says on standard error what is done, and after how many seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"[{time.monotonic() - self._start:6.0f} s] {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real adapters; default: ../shared/adapters")
    parser.add_argument("--quick", action="store_true", help="a part of it, in about a minute; documents stay as they are")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these collections; documents stay as they are")
    parser.add_argument("--whole-bank", type=int, metavar="N", help=f"weigh a bank of so many adapters, 0: none; {FULL}")
    parser.add_argument("--effort", type=int, default=1, help="of this coder, 0 to 3")
    parser.add_argument("--folder", type=Path, help="for the bank that is weighed; default: the temporary folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    return parser


if __name__ == "__main__":
    main()
