"""What is measured once, beside the curves: speed, the lossless level, a whole bank."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Spread
from benchmarks.rate_distortion import lossless, speed, whole_bank
from benchmarks.rate_distortion.families import Family, real
from benchmarks.rate_distortion.lossless import Lossless
from benchmarks.rate_distortion.speed import Speed
from benchmarks.rate_distortion.whole_bank import FULL, WholeBank

_FILES = ("r16", "clinc")


@dataclass(frozen=True, slots=True)
class Once:
    """Each is None or empty where it was left out."""

    speed: Speed | None = None
    lossless: tuple[Lossless, ...] = ()
    bank: WholeBank | None = None

    def rows(self) -> list[dict[str, Any]]:
        """JSON values, one mapping for each figure."""
        pairs = [("speed", self.speed), ("whole bank", self.bank), *(("lossless", one) for one in self.lossless)]
        return [{"case": name} | _fields(value) for name, value in pairs if value is not None]


def timed(data: Path, source: Family, effort: int, pool: Executor, told: Callable[[str], None]) -> Once:
    """Speed and the lossless level."""
    told("speed")
    taken = speed.measure(source, effort, pool)
    told("lossless level")
    return Once(taken, tuple(lossless.measure(real(data, name), dtype) for name in _FILES for dtype in lossless.DTYPES))


def weighed(source: Family, count: int, results: Path, told: Callable[[str], None], folder: Path | None) -> WholeBank | None:
    """A bank of ``count`` adapters on disk beside what is counted, kept in ``results`` if it is a full one; for a count of 0
    the last one that was kept."""
    if not count:
        return WholeBank.stored(results)
    found = whole_bank.measure(source, count, told, folder)
    if count >= FULL:
        found.store(results)
    return found


def _fields(value: Any) -> dict[str, Any]:
    found = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return {name: field.median if isinstance(field, Spread) else field for name, field in found.items()}
