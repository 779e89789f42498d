"""A bank of 100,000 versions: look-up by reference, lists, searches, and registering into it.

    python -m benchmarks.catalog [--versions 100000] [--lookups 2000] [--rounds 15] [--folder DIR]

The rows are written by the catalog's own functions, thousands in a transaction; the versions have no bytes, which a look-up
does not read.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from adapterbank import Bank
from adapterbank.catalog import aliases, versions
from adapterbank.catalog.rows import NewVersion
from adapterbank.catalog.session import Catalog
from adapterbank.lora.layout import ModuleShape
from benchmarks.adapters import modules_of, write_adapter
from benchmarks.harness import RESULTS, ROUNDS, Report, Spread, Target, interleaved, ratios

VERSIONS, LOOKUPS = 100_000, 2_000
P99 = 0.005  # seconds
_PER_NAME, _PER_TRANSACTION = 5, 5_000
LISTS: dict[str, dict[str, Any]] = {
    "list, 50": {"limit": 50},
    "list, 50 newest": {"limit": 50, "sort": "-created"},
    "search rank=16 and acc>0.99, 50 best": {"where": "rank=16 and acc>0.99", "sort": "-acc", "limit": 50},
    "search base~llama and tag.task=sql, 50": {"where": "base~llama and tag.task=sql", "limit": 50},
    "search name=n777": {"where": "name=n777"},
}  # fmt: skip


def measure(count: int = VERSIONS, lookups: int = LOOKUPS, rounds: int = ROUNDS, folder: Path | None = None) -> Report:
    """Fill a bank with ``count`` versions in a temporary folder in ``folder``, then measure each kind of access."""
    with tempfile.TemporaryDirectory(dir=folder) as place, Bank.open(Path(place, "bank"), create=True) as bank:
        figures = [_filled(bank.rooms.catalog, count)]
        found = [_lookups(bank, kind, refs, lookups) for kind, refs in _references(count).items()]
        figures += found
        figures += [_listed(bank, case, rounds, **given) for case, given in LISTS.items()]
        figures.append(_registered(bank, Path(place), rounds))
    targets = [Target(f"p99 of {row['case']}, seconds", row["p99_s"], P99) for row in found]
    return Report("catalog", {"versions": count, "lookups": lookups, "rounds": rounds}, figures, targets)


def fill(catalog: Catalog, count: int) -> None:
    """``count`` versions, five of each name, with a tag and two metrics each; every tenth name has an alias."""
    for start in range(0, count, _PER_TRANSACTION):
        with catalog.writing() as tx:
            for index in range(start, min(start + _PER_TRANSACTION, count)):
                added = versions.add(tx, _version(index))
                if index % (10 * _PER_NAME) == 0:
                    aliases.set_alias(tx, added.name, "prod", added.number)


def _version(index: int) -> NewVersion:
    rank = (8, 16, 32, 64)[index % 4]
    shapes = tuple(ModuleShape(f"layers.{i}.q_proj", 4096, 4096, rank) for i in range(32))
    return NewVersion(
        name=f"n{index // _PER_NAME}", base_model=("org/llama", "org/qwen", "org/encoder")[index // _PER_NAME % 3],
        files=_digest("files", index), content=_digest("content", index),
        config=_digest("config", index % 100), weights=_digest("weights", index), config_size=700, weights_size=1 << 20,
        kind="lora", dtype="bfloat16", rank=rank, alpha=2.0 * rank, rslora=False, target_modules=("q_proj",), modules=shapes,
        parameters=sum(shape.parameters for shape in shapes), tags={"task": ("sql", "math", "chat")[index % 3]},
        metrics={"acc": index % 1009 / 1009, "loss": index % 503 / 503},
    )  # fmt: skip


def _filled(catalog: Catalog, count: int) -> dict[str, Any]:
    start = time.perf_counter()
    fill(catalog, count)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in catalog.root.glob("catalog.db*"))
    return {"case": "fill", "seconds": seconds, "each_s": seconds / count, "database_mb": size / 1e6}


def _references(count: int) -> dict[str, Callable[[random.Random], str]]:
    """For each kind of reference a function that draws one that exists."""
    names = count // _PER_NAME
    return {
        "name": lambda draw: f"n{draw.randrange(names)}",
        "name@number": lambda draw: f"n{draw.randrange(names)}@{draw.randint(1, _PER_NAME)}",
        "name@alias": lambda draw: f"n{draw.randrange(0, names, 10)}@prod",
        "sha256:prefix": lambda draw: f"sha256:{_digest('files', draw.randrange(count))[:16]}",
    }


def _lookups(bank: Bank, kind: str, draw_reference: Callable[[random.Random], str], lookups: int) -> dict[str, Any]:
    """Every look-up is a transaction of its own; ``processor_p99_s`` leaves out the time in which other programs ran."""
    draw, taken, computing = random.Random(0), [], []
    for reference in [draw_reference(draw) for _ in range(lookups)]:
        start, begun = time.perf_counter(), time.thread_time()
        bank.find(reference)
        computing.append(time.thread_time() - begun)
        taken.append(time.perf_counter() - start)
    return {
        "case": kind,
        "p50_s": statistics.median(taken),
        "p99_s": _p99(taken),
        "worst_s": max(taken),
        "processor_p99_s": _p99(computing),
        "lookups": lookups,
    }


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _listed(bank: Bank, case: str, rounds: int, **given: Any) -> dict[str, Any]:
    found = len(bank.versions(**given))
    taken = interleaved({case: lambda _: bank.versions(**given)}, rounds)[case]
    return {"case": case, "found": found, "seconds": Spread.of(taken)}


def _registered(bank: Bank, place: Path, rounds: int) -> dict[str, Any]:
    """A new 0.1 MB adapter in every round, into the full bank and into an empty one."""
    inputs: Iterator[Path] = (write_adapter(place / f"in{i}", modules_of(100_000), seed=i) for i in range(rounds))
    directories = list(inputs)
    with Bank.open(place / "empty", create=True) as empty:
        jobs = {
            "full": lambda number: bank.register(directories[number], name=f"new{number}"),
            "empty": lambda number: empty.register(directories[number], name=f"new{number}"),
        }
        taken = interleaved(jobs, rounds)
    full, ratio = Spread.of(taken["full"]), ratios(taken["full"], taken["empty"])
    return {"case": "register", "seconds": full, "empty_bank_s": Spread.of(taken["empty"]), "ratio": ratio}


def _digest(*words: object) -> str:
    return sha256(repr(words).encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=int, default=VERSIONS)
    parser.add_argument("--lookups", type=int, default=LOOKUPS, help="of each kind of reference")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    report = measure(given.versions, given.lookups, given.rounds, given.folder)
    print(report.text())
    report.store(given.results)


if __name__ == "__main__":
    main()
