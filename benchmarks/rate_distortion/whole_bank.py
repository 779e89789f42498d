"""A whole bank beside its counted bits: files on disk after compact, VACUUM and checkpoint, minus those of an empty bank."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapterbank import Bank
from benchmarks.harness import Report, Target
from benchmarks.rate_distortion.alone import overhead
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.synthetic import null
from benchmarks.rate_distortion.together import written

MAX_ERROR, EFFORT = 0.1, 0
FULL = 1000  # adapters in a bank whose weight is kept
_BATCH = 50
_NAME = "whole_bank"  # of the file that keeps the last weighing


@dataclass(frozen=True, slots=True)
class WholeBank:
    """``counted`` as in all tables, ``on_disk`` measured, both in bytes; ``date`` is the day on which it was weighed."""

    adapters: int
    counted: int
    on_disk: int
    date: str

    @property
    def excess(self) -> float:
        """How much larger the bank is than what was counted."""
        return self.on_disk / self.counted - 1.0

    @property
    def target(self) -> Target:
        return Target(f"a bank of {self.adapters} adapters, larger than counted by", self.excess, 0.02)

    def store(self, folder: Path) -> Path:
        """Keep it in ``folder`` with the machine and the versions, and return its file."""
        return Report(_NAME, {"max_error": MAX_ERROR, "effort": EFFORT}, [asdict(self)], [self.target]).store(folder)

    @classmethod
    def stored(cls, folder: Path) -> WholeBank | None:
        """What :meth:`store` kept last, None if nothing did."""
        path = folder / f"{_NAME}.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))["figures"][0]) if path.is_file() else None


def measure(source: Family, count: int, told: Callable[[str], None], folder: Path | None = None) -> WholeBank:
    """``count`` seeded adapters with the shapes and spectrum of the source's first, registered, coded, exact bytes dropped."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        with Bank.open(root / "empty", create=True):
            pass
        with Bank.open(root / "bank", create=True) as bank:
            counted = 0
            for start in range(0, count, _BATCH):
                counted += _filled(bank, source, range(start, min(start + _BATCH, count)), root / "in")
                told(f"whole bank: {min(start + _BATCH, count)}/{count} adapters")
            bank.gc(grace=0.0)
        sizes = [_size(root / name) for name in ("bank", "empty")]
    return WholeBank(count, counted, sizes[0] - sizes[1], datetime.now(UTC).strftime("%Y-%m-%d"))


def _filled(bank: Bank, source: Family, numbers: range, place: Path) -> int:
    """Register, code and compact adapters with these seeds; the bytes counted for them."""
    refs, counted = [], 0
    for number in numbers:
        family = null(source, 1, seed=1000 + number)
        written(family, next(iter(family.adapters)), place)
        ref = bank.register(place, name=f"adapter{number}").ref
        own = overhead(family) - (family.config_bytes if number else 0)  # the configuration is one object for all
        counted += bank.encode(ref, max_error=MAX_ERROR, effort=EFFORT).form.bytes + own
        refs.append(ref)
        shutil.rmtree(place)
    bank.compact(refs, level="bounded", drop_exact=True)
    return counted


def _size(root: Path) -> int:
    """Bytes of all files of a closed bank after VACUUM and checkpoint."""
    for path in root.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
