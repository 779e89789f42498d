"""Switching adapters: ``python -m benchmarks.serving [PART…] [--device cuda] [--quick]``, or ``make bench-serving``.

Needs torch, numpy, peft and safetensors, on a GPU triton. ``error`` also needs all of adapterbank's dependencies and a folder
of real adapters (``--data``), ``cold`` the dependencies; without them they are left out. On two cores it takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import RESULTS, Report, Target
from benchmarks.serving.bare import stand_in

stand_in()

from benchmarks.rate_distortion.document import fill  # noqa: E402
from benchmarks.serving import cold, front, mixed, pages, quality, switch, traffic  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("switch", "error", "load", "mixed", "cold")
SHARE, PINNED, PEFT = 0.8, 10.0, 50.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store; tables go into the document after a full run."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    bench, load = _bench(given)
    rows = [row for name in given.parts or PARTS for row in _rows(name, bench, load, given.data)]
    settings = {"device": given.device, "backend": bench.backend, "dtype": "bfloat16", "threads": torch.get_num_threads()}
    name = "serving" if given.device == "cpu" else f"serving-{given.device}"
    report = Report(name, settings | {"rounds": bench.rounds}, rows, list(targets(rows, given.device)))
    print(report.text())
    report.store(given.results)
    if not given.quick and given.docs is not None:
        front.draw(rows, given.docs, given.device)
        for place in fill(given.docs / "benchmarks.md", pages.tables(rows, given.device)):
            print(f"benchmarks.md has no place for {place}", file=sys.stderr)


def _bench(given: argparse.Namespace) -> tuple[switch.Bench, traffic.Load]:
    device = torch.device(given.device)
    if given.quick:
        quick = switch.Bench(device, ["1B"], ranks=(8,), layers=1, rounds=2, say=_told)
        return quick, traffic.Load(adapters=20, threads=4, requests=10, switches=100)
    sizes = ["1B", "8B", "70B"] if device.type == "cuda" else ["1B", "8B"]
    most = (24 if device.type == "cuda" else 1) << 30
    return switch.Bench(device, sizes, most=most, say=_told), traffic.Load()


def _rows(name: str, bench: switch.Bench, load: traffic.Load, data: Path) -> Iterator[dict[str, Any]]:
    if name == "switch":
        yield from switch.measure(bench)
    elif name == "load":
        yield from traffic.measure(bench, load)
    elif name == "mixed":
        yield from mixed.measure(bench)
    elif name == "cold":
        yield from _cold(bench)
    elif (data / "r16").is_dir():
        yield from quality.measure(data, say=_told)
    else:
        _told(f"error: no folder {data}/r16: name a folder of adapters with --data")


def _cold(bench: switch.Bench) -> Iterator[dict[str, Any]]:
    lacking = cold.absent()
    if lacking is None:
        yield from cold.measure(bench)
    else:
        _told(f"cold: a bank on disk needs {lacking}")


def targets(rows: Sequence[dict[str, Any]], device: str) -> Iterator[Target]:
    """The share of a copy for every form; on a GPU how much faster than a copy from pinned memory, and than PEFT."""
    switched = [row for row in rows if row["case"] == "switch"]
    rivals = {(row["llama"], row["rank"], row["form"]): row["seconds"].median for row in switched if "of_copy" not in row}
    for row in switched:
        if "of_copy" not in row:
            continue
        what = f"{row['llama']}, rank {row['rank']}, {row['form']}"
        yield Target(f"{what}: share of a copy", row["of_copy"].median, SHARE, at_least=True)
        for rival, times in (("pinned copy", PINNED), ("PEFT load_adapter", PEFT)) if device == "cuda" else ():
            seconds = rivals.get((row["llama"], row["rank"], rival))
            if seconds is not None and ("pinned copy" not in rival or _promised(row["form"])):
                yield Target(f"{what}: faster than {rival}", seconds / row["seconds"].median, times, at_least=True)


def _promised(form: str) -> bool:
    """The forms that shall beat a pinned copy tenfold: every coded one, and integer bases of up to four components."""
    return form.startswith("fixed") or form in ("rmm p=2 int8", "rmm p=4 int8")


def _told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="one layer and two rounds: to see that it runs")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "adapters", help="folder of real adapters")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="write the tables into benchmarks.md of this folder")
    return parser


if __name__ == "__main__":
    main()
