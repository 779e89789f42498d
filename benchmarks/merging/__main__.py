"""What merging costs and what it is worth, in one run: ``python -m benchmarks.merging [--quick]``, or ``make bench-merging``.

The full size takes about ten minutes on two cores, most of them PEFT's; ``--quick`` takes a module of a quarter of the size.
Needs PEFT.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import RESULTS, Report
from benchmarks.merging import speed

PARTS: Mapping[str, Callable[[bool], Report]] = {
    "speed": lambda quick: speed.measure(speed.Bench.quick() if quick else speed.Bench()),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store, part by part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merging", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    for name in given.parts or PARTS:
        report = PARTS[name](given.quick)
        print(report.text())
        report.store(given.results)


if __name__ == "__main__":
    main()
