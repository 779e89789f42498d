"""What merging costs and what it is worth, in one run: ``python -m benchmarks.merging [--quick]``, or ``make bench-merging``.

``speed`` takes about ten minutes on two cores, most of them PEFT's, and needs PEFT. ``field`` takes about as long; it needs a
folder of adapters with heads and sentences (``--data``) and the extras ``demo`` and ``bench``, and writes its table and picture
into the documents. ``held_out`` takes half an hour and needs the same; it runs the command line. ``--quick`` takes a module of
a quarter of the size, and few sentences.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import RESULTS, Report
from benchmarks.merging import field, field_pages, held_out, speed, speed_pages
from benchmarks.merging.field_halves import Source
from benchmarks.rate_distortion.document import fill
from benchmarks.rate_distortion.encoder import absent
from benchmarks.rate_distortion.families import missing

ROOT = Path(__file__).resolve().parents[2]
DATA, DOCS = ROOT.parent / "shared" / "adapters", ROOT / "docs"


def measured_speed(given: argparse.Namespace) -> Report:
    """What the methods cost; the tables of a full run go into the document."""
    found = speed.measure(speed.Bench.quick() if given.quick else speed.Bench())
    if not given.quick:
        _filled(given.docs, speed_pages.tables(found.figures))
    return found


def measured_field(given: argparse.Namespace) -> Report:
    """What the methods are worth; of a full run table and picture go into the documents."""
    _needed("field", given.data)
    found = field.measure(Source(given.data), _told, given.work, given.quick, given.learn)
    print(f"{field_pages.table(found)}\n\n{field_pages.verdict(found)}\n", flush=True)
    if not given.quick:
        field_pages.draw(found, given.docs)
        written = {"merging field": field_pages.table(found), "merging field verdict": field_pages.verdict(found)}
        _filled(given.docs, written)
    return found.report()


def measured_held_out(given: argparse.Namespace) -> Report:
    """What the methods that learn reach of their own objectives; of a full run the tables go into the documents."""
    _needed("held_out", given.data)
    found = held_out.measure(given.data, _told, given.work, given.quick)
    written = {"merging held out": held_out.table(found), "merging held out points": held_out.points(found)}
    print("\n\n".join(written.values()), flush=True)
    if not given.quick:
        _filled(given.docs, written)
    return found


PARTS: Mapping[str, Callable[[argparse.Namespace], Report]] = {
    "speed": measured_speed,
    "field": measured_field,
    "held_out": measured_held_out,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store, part by part; the exit status is 2 without the data that a part needs."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    for name in given.parts or PARTS:
        report = PARTS[name](given)
        if name != "held_out":  # its tables say it better
            print(report.text())
        if not given.quick or name == "speed":
            report.store(given.results)


def _needed(part: str, data: Path) -> None:
    """End the process with status 2 without the data or the packages of a part."""
    lacking = [f"folder {name}" for name in missing(data, ["r16"])] or [name for name in [absent()] if name]
    if lacking:
        print(f"{part}: no {', '.join(lacking)}: name a folder of adapters with --data, and install 'demo'", file=sys.stderr)
        sys.exit(2)


def _filled(docs: Path, tables: Mapping[str, str]) -> None:
    for name in fill(docs / "benchmarks.md", tables):
        print(f"benchmarks.md has no place for {name}", file=sys.stderr)


def _told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merging", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs; only speed is stored then")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real adapters; default: ../shared/adapters")
    parser.add_argument(
        "--learn", nargs="*", choices=field.LEARNED, default=field.LEARNED, help="field: of what is learned; all"
    )
    parser.add_argument("--work", type=Path, help="field, held_out: an existing folder in which a run that was cut off goes on")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    return parser


if __name__ == "__main__":
    main()
