"""The fixed-width form beside the entropy-coded one: bits per parameter at equal error, and the components that both keep.

python -m benchmarks.widths [--data DIR] [--errors E …] [--results DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from adapterbank.codecs import fixed
from adapterbank.codecs.coder import encode, inspect
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter
from benchmarks.harness import RESULTS, Report
from benchmarks.harness import Target as Limit
from benchmarks.rate_distortion.families import real

DATA = Path(__file__).resolve().parents[2] / "shared" / "adapters"
FAMILIES = ("r16", "clinc")
LIMIT = 1.6


def measure(adapter: Adapter, error: float) -> tuple[float, float, int, int]:
    """Bits of the entropy-coded and of the fixed-width object, and the components that each keeps."""
    target = Target(max_error=error)
    coded, resident = encode(adapter, target), fixed.encode(adapter, target)
    live = sum(module.live for module in inspect(coded.data).modules)
    kept = sum(factors.rank for factors in resident.adapter.modules.values())
    bits = [8 * len(data) / adapter.parameters for data in (coded.data, resident.data)]
    return bits[0], bits[1], live, kept


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widths", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real adapters; default: ../shared/adapters")
    parser.add_argument("--errors", type=float, nargs="+", default=[0.66, 0.5, 0.28, 0.15, 0.08])
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = []
    for name in FAMILIES:
        adapters = real(given.data, name).adapters.values()
        for error in given.errors:
            coded, resident, live, kept = map(fmean, zip(*(measure(adapter, error) for adapter in adapters), strict=True))
            row = {"family": name, "error": error, "coded_bits": coded, "fixed_bits": resident, "ratio": resident / coded,
                   "coded_components": live, "fixed_components": kept}  # fmt: skip
            rows.append(row)
            print(" ".join(f"{key}={value:.4g}" if key != "family" else name for key, value in row.items()), flush=True)
    worst = max(float(row["ratio"]) for row in rows)
    Report("widths", {"errors": given.errors}, rows, [Limit("fixed width over entropy-coded bits, worst", worst, LIMIT)]).store(
        given.results
    )


if __name__ == "__main__":
    main()
