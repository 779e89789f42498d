"""All benchmarks in one run, each in a process of its own: ``python -m benchmarks [NAME…] [--results DIR]``, or ``make bench``.

``memory`` runs at a quarter of its size here; ``python -m benchmarks.memory`` runs all of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import RESULTS

BENCHMARKS = {
    "register": [],
    "catalog": [],
    "fit": ["--layers", "0"],
    "reconstruct": [],
    "memory": ["--adapters", "16", "--layers", "16", "--gauges", "svd"],
}


def main() -> None:
    """Run the named benchmarks, or all; the exit status is that of the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: expected some of {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name], "--results", str(given.results)]
        status = subprocess.run(command, check=False).returncode
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main()
