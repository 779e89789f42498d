"""What all benchmarks share: interleaved rounds, medians with their spread, the machine, a report that is printed and stored.

Shared and throttled machines change speed from second to second. So two things to compare take turns within every round, the
ratio is taken within the round, and a figure is the median of at least 15 rounds with its quartiles. Needs the standard
library only; torch, numpy and the others are named in the report if they are there.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROUNDS = 15
RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("adapterbank", "torch", "numpy", "safetensors", "sqlalchemy")

Job = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, first and third quartile, and largest of ``samples`` measured values."""

    median: float
    low: float
    high: float
    worst: float
    samples: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return cls(median, low, high, max(values), len(values))

    def text(self, scale: float = 1.0, digits: int = 2) -> str:
        """``median (low to high)``, multiplied by ``scale``."""
        return f"{self.median * scale:.{digits}f} ({self.low * scale:.{digits}f} to {self.high * scale:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that was promised: ``measured`` should be at most ``limit``, or at least where ``at_least``."""

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's outcome: what was set, one mapping of figures for each case, the targets."""

    name: str
    settings: Mapping[str, Any]
    figures: Sequence[Mapping[str, Any]]
    targets: Sequence[Target] = ()

    def document(self) -> dict[str, Any]:
        """The report as JSON values, with date, machine, its load and versions; no names of hosts, users or folders."""
        return {
            "benchmark": self.name,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": versions(),
            "load": {"one_minute": round(os.getloadavg()[0], 1), "niceness": os.nice(0)},
            "settings": dict(self.settings),
            "figures": [_plain(row) for row in self.figures],
            "targets": [asdict(target) | {"met": target.met} for target in self.targets],
        }

    def text(self) -> str:
        """The report for a terminal: one line a case, one a target."""
        lines = [f"{self.name}: {_words(self.settings)}"]
        lines += [f"  {_words(row)}" for row in self.figures]
        for target in self.targets:
            verdict = "met" if target.met else "MISSED"
            sign = "≥" if target.at_least else "≤"
            lines.append(f"  target {verdict}: {target.what} {target.measured:.3g} {sign} {target.limit:g}")
        return "\n".join(lines)

    def store(self, folder: Path = RESULTS) -> Path:
        """Write the document to ``folder/<name>.json`` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def interleaved(jobs: Mapping[str, Job], rounds: int = ROUNDS, before: Job | None = None) -> dict[str, list[float]]:
    """Seconds of every job in every round; the jobs take turns, and in every other round in opposite order.

    ``before`` is called with the number of the round ahead of it, untimed; a job is given that number too.
    """
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        if before is not None:
            before(number)
        for name in list(jobs) if number % 2 == 0 else reversed(list(jobs)):
            start = time.perf_counter()
            jobs[name](number)
            taken[name].append(time.perf_counter() - start)
    return taken


def ratios(above: Iterable[float], below: Iterable[float]) -> Spread:
    """The spread of the ratios within each round."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def differences(above: Iterable[float], below: Iterable[float]) -> Spread:
    """The spread of the differences within each round."""
    return Spread.of([a - b for a, b in zip(above, below, strict=True)])


def machine() -> dict[str, Any]:
    """The processor, the cores this process may use, memory in GiB, the operating system, and the GPU if torch sees one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"cpu": _cpu(), "cores": cores, "memory_gib": round(memory, 1), "system": system} | _gpu()


def versions() -> dict[str, str]:
    """Python, SQLite and the packages that matter, as installed."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    family = f"family {named['cpu family']} model {named['model']}" if "cpu family" in named else platform.machine()
    return f"{named.get('model name', 'unknown')} ({family})"


def _gpu() -> dict[str, str]:
    try:
        import torch
    except ImportError:
        return {}
    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: asdict(value) if isinstance(value, Spread) else value for key, value in row.items()}


def _words(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_word(value)}" for key, value in row.items())


def _word(value: Any) -> str:
    if isinstance(value, Spread):
        return f"{value.median:.4g} ({value.low:.4g} to {value.high:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
