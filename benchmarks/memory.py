"""Memory of ``build_basis``: adapters of an 8-billion-parameter model, from registered files to stored objects.

    python -m benchmarks.memory [--adapters 32] [--layers 32] [--gauges svd,given] [--folder DIR]

At full size (Linux only) 32 adapters of rank 16 on all linear layers, 84 MB each in bfloat16, are registered, and a basis with
p = 4 is built over them. Anonymous memory is what the process holds beyond mapped files; what it has after importing torch and
a first small fit is taken off. The copy reads the same inputs and writes as many bytes as all objects have, with fsync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterbank import Bank
from benchmarks.adapters import llama_8b, modules_of, write_adapter
from benchmarks.fit import LIMIT, AnonymousPeak
from benchmarks.harness import RESULTS, Report, Target

ADAPTERS, LAYERS, COMPONENTS, GAUGES = 32, 32, 4, ("svd", "given")
_CHUNK = 1 << 20


def measure(
    adapters: int = ADAPTERS, layers: int = LAYERS, gauges: Sequence[str] = GAUGES, folder: Path | None = None
) -> Report:
    """Register the adapters in a bank in a temporary folder in ``folder`` (7 GB at full size), then build in each gauge."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        _warm_up(Path(place), gauges)
        with Bank.open(Path(place, "bank"), create=True) as bank:
            figures = [_registered(bank, Path(place), adapters, layers)]
            figures += [_built(bank, Path(place), adapters, gauge) for gauge in gauges]
    settings = {"adapters": adapters, "layers": layers, "rank": 16, "components": COMPONENTS, "dtype": "float32"}
    targets = [Target(f"GiB of anonymous memory, {row['case']}", row["anonymous_gib"], LIMIT) for row in figures]
    return Report("memory", settings, figures, targets)


def _warm_up(place: Path, gauges: Sequence[str]) -> None:
    """A first small fit in each gauge: what torch and the libraries below it allocate once."""
    with Bank.open(place / "small", create=True) as bank:
        for number in range(2):
            bank.register(write_adapter(place / f"small{number}", modules_of(1_000_000), seed=number), name=f"a{number}")
        for gauge in gauges:
            bank.build_basis(gauge, ["a0", "a1"], components=1, gauge=gauge, force=True)
    shutil.rmtree(place / "small")


def _registered(bank: Bank, place: Path, adapters: int, layers: int) -> dict[str, Any]:
    """Register one after the other; each input is written before and removed after, untimed."""
    seconds, anonymous, size = 0.0, 0, 0
    for number in range(adapters):
        source = write_adapter(place / "in", llama_8b(layers), seed=number)
        with AnonymousPeak() as peak:
            start = time.perf_counter()
            size += bank.register(source, name=f"a{number}").version.bytes
            seconds += time.perf_counter() - start
        anonymous = max(anonymous, peak.bytes)
        shutil.rmtree(source)
    return {"case": "register", "bytes": size, "seconds": seconds, "anonymous_gib": anonymous / 2**30}


def _built(bank: Bank, place: Path, adapters: int, gauge: str) -> dict[str, Any]:
    """Build, weigh the objects that came out, remove them again."""
    refs = [f"a{number}" for number in range(adapters)]
    before = _written()
    with AnonymousPeak() as peak:
        start = time.perf_counter()
        basis = bank.build_basis("b", refs, components=COMPONENTS, gauge=gauge, force=True)
        seconds = time.perf_counter() - start
    written = _written() - before
    read = sum(bank.find(ref).bytes for ref in refs)
    stored = basis.bytes + sum(member.bytes for member in bank.members(basis.ref))
    copied = _copy_seconds([bank.rooms.vault.path(bank.find(ref).weights) for ref in refs], place / "copy", stored)
    bank.remove_basis(basis.ref)
    return {
        "case": f"build, gauge {gauge}",
        "anonymous_gib": peak.bytes / 2**30,
        "seconds": seconds,
        "read_bytes": read,
        "stored_bytes": stored,
        "written_to_disk_bytes": written,
        "copy_seconds": copied,
        "ratio": seconds / copied,
        "error_mean": basis.error_mean,
    }


def _copy_seconds(sources: Sequence[Path], target: Path, size: int) -> float:
    """Read ``sources``, write ``size`` bytes to ``target`` and fsync."""
    buffer = memoryview(bytearray(_CHUNK))
    start = time.perf_counter()
    for source in sources:
        with source.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    with target.open("wb", buffering=0) as file:
        for at in range(0, size, _CHUNK):
            file.write(buffer[: size - at])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def _written() -> int:
    """Bytes that this process caused to be written to a disk (Linux)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, default=ADAPTERS)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--gauges", default=",".join(GAUGES), help="with commas")
    parser.add_argument("--folder", type=Path, help="where there is room for 7 GB; default: the temporary folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    report = measure(given.adapters, given.layers, given.gauges.split(","), given.folder)
    print(report.text())
    report.store(given.results)


if __name__ == "__main__":
    main()
