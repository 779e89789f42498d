"""``register`` against a copy of the same two files with SHA-256 and fsync, in one process, on one disk.

    python -m benchmarks.register [--sizes 0.1,1,8,80,200] [--adapters 1000] [--rounds 15] [--folder DIR]

A copy reads, hashes and writes each file, fsyncs both files and their folder. ``register`` does more: it copies the file
before it judges it, hashes it as a whole and tensor by tensor, looks at every value, keeps two objects and commits the rows.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterbank import Bank
from benchmarks.adapters import CONFIG, WEIGHTS, modules_of, write_adapter
from benchmarks.harness import RESULTS, ROUNDS, Report, Spread, Target, differences, interleaved, ratios

SIZES = (0.1, 1.0, 8.0, 80.0, 200.0)  # MB of the weights file
LARGE, RATIO, FIXED = 80.0, 1.5, 0.030  # from 80 MB on the ratio is promised, below the difference in seconds
_CHUNK = 1 << 20


def measure(sizes: Sequence[float] = SIZES, adapters: int = 1000, rounds: int = ROUNDS, folder: Path | None = None) -> Report:
    """Both parts: single files of each size in MB, and many small adapters in bulk; in a temporary folder in ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        figures = [_single(Path(place), size, rounds) for size in sizes]
        figures.append(_bulk(Path(place), adapters, rounds))
    settings = {"rounds": rounds, "sizes_mb": list(sizes), "bulk_adapters": adapters}
    return Report("register", settings, figures, [target for row in figures if "mb" in row for target in _targets(row)])


def copy(source: Path, target: Path) -> None:
    """Copy an adapter durably, hashing what is copied."""
    target.mkdir()
    for name in (CONFIG, WEIGHTS):
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
        with (source / name).open("rb", buffering=0) as read, (target / name).open("wb", buffering=0) as written:
            while count := read.readinto(buffer):
                digest.update(buffer[:count])
                written.write(buffer[:count])
            os.fsync(written.fileno())
    _sync(target)


def _single(place: Path, size: float, rounds: int) -> dict[str, Any]:
    """One size: the same input, made different in its last tensor, and synced, before every round.

    What was written stays until the end on both sides: pages that are freed and used again are faster than new ones.
    """
    work = place / f"{size}"
    source = write_adapter(work / "in", modules_of(int(size * 1e6)))
    (work / "copy").mkdir()
    with Bank.open(work / "bank", create=True) as bank:
        jobs = {
            "register": lambda number: bank.register(source, name=f"a{number}"),
            "copy": lambda number: copy(source, work / "copy" / str(number)),
        }
        taken = interleaved(jobs, rounds, lambda number: _stamp(source / WEIGHTS, number))
    shutil.rmtree(work)
    return {
        "case": "single",
        "mb": size,
        "register_s": Spread.of(taken["register"]),
        "copy_s": Spread.of(taken["copy"]),
        "ratio": ratios(taken["register"], taken["copy"]),
        "difference_s": differences(taken["register"], taken["copy"]),
    }


def _bulk(place: Path, adapters: int, rounds: int) -> dict[str, Any]:
    """Small adapters through ``register_many``, in as many chunks as rounds, each beside a copy of the same chunk."""
    work = place / "bulk"
    size = -(-adapters // rounds)  # rounded up: at least as many as asked for
    chunks = [[work / "in" / f"{i}-{k}" for k in range(size)] for i in range(rounds)]
    for number, chunk in enumerate(chunks):
        for k, directory in enumerate(chunk):
            write_adapter(directory, modules_of(100_000), seed=number * size + k)
            _sync(directory)
    os.sync()
    (work / "copy").mkdir()
    with Bank.open(work / "bank", create=True) as bank:

        def register(number: int) -> None:
            for done in bank.register_many((path, path.name) for path in chunks[number]):
                assert done.status == "registered", done

        def copies(number: int) -> None:
            for path in chunks[number]:
                copy(path, work / "copy" / path.name)

        taken = interleaved({"register": register, "copy": copies}, rounds)
    return {
        "case": "bulk",
        "adapters": rounds * size,
        "seconds": sum(taken["register"]),
        "register_each_s": Spread.of([seconds / size for seconds in taken["register"]]),
        "copy_each_s": Spread.of([seconds / size for seconds in taken["copy"]]),
        "ratio": ratios(taken["register"], taken["copy"]),
    }


def _targets(row: dict[str, Any]) -> list[Target]:
    if row["mb"] >= LARGE:
        return [Target(f"register over copy, {row['mb']:g} MB", row["ratio"].median, RATIO)]
    return [Target(f"seconds beyond the copy, {row['mb']:g} MB", row["difference_s"].median, FIXED)]


def _stamp(weights: Path, number: int) -> None:
    """Put ``number`` into the last four values, as bfloat16 numbers above 2, and sync: nothing is left to be written back."""
    with weights.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"".join((0x4000 | number >> 7 * digit & 0x7F).to_bytes(2, "little") for digit in range(4)))
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.register", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(f"{size:g}" for size in SIZES), help="MB, with commas")
    parser.add_argument("--adapters", type=int, default=1000, help="how many in bulk")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    sizes = [float(size) for size in given.sizes.split(",") if size]
    report = measure(sizes, given.adapters, given.rounds, given.folder)
    print(report.text())
    report.store(given.results)


if __name__ == "__main__":
    main()
