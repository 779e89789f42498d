"""What residents of one bank share whatever their layouts: the budget, the device, the counts, and the moment of a refresh."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from adapterbank.serving.cache import Cache
from adapterbank.serving.device import Placed, placed
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.slots import SlotLayout
from adapterbank.serving.source import Key, Numbered, Source
from adapterbank.serving.statistics import Statistics

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident


class Pool:
    """Adapters of all layouts on one device. Safe to share between threads."""

    def __init__(self, device: torch.device, budget: int, host_budget: int) -> None:
        self.cache: Cache[Key, Packed, Placed] = Cache(
            lambda key: key.source.load(key.version), partial(placed, device=device), budget, host_budget
        )
        self.residents: WeakSet[Resident] = WeakSet()
        self.changing = Lock()
        self._numbers = itertools.count(1)
        self._writing, self._written = Lock(), Statistics()

    def numbered(self, source: Source) -> Numbered:
        """``source`` with a number that no other has."""
        return Numbered(next(self._numbers), source)

    @contextmanager
    def use(self, keys: Sequence[Key]) -> Iterator[list[Packed]]:
        """Adapters on the device, all at once, in the order of the caller's current stream. Raises as :meth:`Cache.use`."""
        held = self.cache.acquire(keys)
        try:
            for each in held:
                each.join()
            yield [each.packed for each in held]
        finally:
            self.cache.release(keys)

    def refresh(self, source: Source) -> None:
        """Let all residents have what ``source`` says now, each for its layout; none, if an adapter does not fit one.

        Call it with ``changing`` held. Raises IncompatibleError.
        """
        fresh = source.refreshed()
        by_layout: dict[SlotLayout, Numbered] = {}
        residents = list(self.residents)
        for layout in {each.layout for each in residents}:
            by_layout[layout] = self.numbered(fresh if layout == fresh.layout else fresh.laid_out(layout))
        for each in residents:
            each.now = by_layout[each.layout]
        self.cache.clear()

    def wrote(self, adapters: int, seconds: float) -> None:
        """Count one launch."""
        with self._writing:
            self._written.written += adapters
            self._written.launches += 1
            self._written.write_microseconds += 1e6 * seconds

    def statistics(self) -> Statistics:
        """Counts since the start, and bytes as they are."""
        found = self.cache.counted.copy()
        with self._writing:
            found.written, found.launches = self._written.written, self._written.launches
            found.write_microseconds = self._written.write_microseconds
        return found
