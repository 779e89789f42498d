"""Canonical directories on a local disk that servers read, and who still needs them.

A server reads a directory again whenever it has evicted the adapter, and dies if it is gone. So a directory is leased to the
server that asked for it (``leases.py``), and only what no living server leases is ever deleted.

    ROOT/adapters/KEY/     a directory, complete; KEY.2 beside it if it was damaged later
    ROOT/leases/…          who needs which
    ROOT/metrics/…         what each server counts
    ROOT/lock              taken for every change
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from adapterbank.errors import ConflictError, StorageError
from adapterbank.integrations.leases import LOG, Lease, needed, own_name
from adapterbank.locks import hold

_SECONDS = 60.0


class Full(Exception):
    """The directory would not fit under the cap: everything there is leased."""


class Directories:
    """The directories under ``root``, of ``limit`` bytes at most in all. Safe to share between threads and processes."""

    def __init__(self, root: Path, limit: int, name: str | None = None) -> None:
        """Take over ``root``: what no living server leases, and what was never finished, goes. ``name`` is the lease's."""
        self.root, self.limit = root.absolute(), limit
        self._threads = threading.Lock()
        self.lease_name = name or own_name()
        self._own = Lease(self._leases, self.lease_name)
        with self._changing():
            self.swept = self._sweep(keep=frozenset())

    def join(self) -> None:
        """Lock this server's lease before there is anything in it: a process that reads what another one asks for."""
        with self._changing():
            self._own.join()

    def lease(self, key: str, size: int, write: Callable[[Path], object]) -> Path:
        """The directory of ``key``, leased to this server; ``write`` makes it, of at most ``size`` bytes, if it is not there.

        ``write`` is called again on one that is there, to check it; at a ConflictError another one is made beside it, since a
        server may be reading the old one. Raises Full if it does not fit and nothing can go.
        """
        with self._changing():
            for place in self._places(key):
                new = not place.exists()
                if new:
                    self._make_room(size, place.name)
                try:
                    write(place)
                except ConflictError as reason:
                    if new:
                        raise
                    LOG.warning("adapterbank: %s is damaged, another one is written beside it: %s", place, reason.message)
                    continue
                self._own.add(place.name)
                return place
        raise AssertionError("the places never end")

    @property
    def bytes(self) -> int:
        """Of all directories."""
        return sum(_size(place) for place in self._adapters.iterdir())

    @property
    def metrics(self) -> Path:
        """Where a server's counts may lie, as ``LEASE.….prom``: they are deleted with its lease."""
        return self.root / "metrics"

    @property
    def _adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def _leases(self) -> Path:
        return self.root / "leases"

    def _places(self, key: str) -> Iterator[Path]:
        yield self._adapters / key
        yield from (self._adapters / f"{key}.{number}" for number in count(2))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The lock of the folder, which is made anew if somebody deleted it."""
        with self._threads:
            try:
                for folder in (self._adapters, self._leases, self.metrics):
                    folder.mkdir(parents=True, exist_ok=True)
            except OSError as reason:
                message = f"the cache {self.root} cannot be used: {reason.strerror}"
                raise StorageError(message, hint="set ADAPTERBANK_CACHE to a folder that can be written") from None
            with hold(self.root / "lock", exclusive=True, timeout=_SECONDS):
                yield

    def _make_room(self, size: int, key: str) -> None:
        held = self.bytes
        if held + size <= self.limit:
            return
        self._sweep(keep=frozenset({key}))
        held = self.bytes
        if held + size > self.limit:
            raise Full(
                f"{self.root} holds {held} bytes that running servers need; {size} more would be over the cap of {self.limit}: "
                "raise ADAPTERBANK_CACHE_BYTES, or stop a server"
            )

    def _sweep(self, keep: frozenset[str]) -> int:
        """Delete what nobody leases; how many directories that were."""
        leased = needed(self._leases)
        for counts in self.metrics.iterdir():
            if not (self._leases / counts.name.partition(".")[0]).exists():
                with suppress(OSError):
                    counts.unlink()
        if leased is None:
            return 0
        gone = [place for place in self._adapters.iterdir() if place.name not in keep | leased]
        for place in gone:
            shutil.rmtree(place, ignore_errors=True)
        return len(gone)


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
