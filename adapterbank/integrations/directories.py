"""Canonical directories on a local disk that servers read, and who still needs them.

A server reads a directory again whenever it has evicted the adapter, and dies if it is gone. So a directory is leased to the
process that asked for it and to those that it had started, and only what no living process leases is ever deleted. A lease is
a file ``leases/PID-RANDOM`` that the asking process keeps locked; it lists keys and processes. The kernel drops the lock with
the process, and the others are looked for by number and start: a worker may outlive the process that it reads for.

    ROOT/adapters/KEY/     a directory, complete
    ROOT/leases/…          who needs which
    ROOT/lock              taken for every change
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from adapterbank.integrations.processes import any_lives, family
from adapterbank.locks import hold, is_held_exclusively, try_flock

_SECONDS = 60.0


class Full(Exception):
    """The directory would not fit under the cap: everything there is leased."""


class Directories:
    """The directories under ``root``, of ``limit`` bytes at most in all. Safe to share between threads and processes."""

    def __init__(self, root: Path, limit: int) -> None:
        """Take over ``root``: what no living process leases, and what was never finished, is deleted."""
        self.root, self.limit = root, limit
        for folder in (root, self._adapters, self._leases):
            folder.mkdir(parents=True, exist_ok=True)
        self._threads = threading.Lock()
        self._own: int | None = None
        with self._changing():
            self.swept = self._sweep(keep=frozenset())

    def lease(self, key: str, size: int, write: Callable[[Path], object]) -> Path:
        """The directory of ``key``, leased to this process; ``write`` makes it, of at most ``size`` bytes, if it is not there.

        ``write`` is called again on one that is there, to check it. Raises Full if it does not fit and nothing can go.
        """
        place = self._adapters / key
        with self._changing():
            if not place.is_dir():
                self._make_room(size, key)
            write(place)
            self._note(key)
        return place

    @property
    def bytes(self) -> int:
        """Of all directories."""
        return sum(_size(place) for place in self._adapters.iterdir())

    @property
    def _adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def _leases(self) -> Path:
        return self.root / "leases"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._threads, hold(self.root / "lock", exclusive=True, timeout=_SECONDS):
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
        leased = keep | self._leased()
        gone = [place for place in self._adapters.iterdir() if place.name not in leased]
        for place in gone:
            shutil.rmtree(place, ignore_errors=True)
        return len(gone)

    def _leased(self) -> frozenset[str]:
        found: set[str] = set()
        for lease in self._leases.iterdir():
            entries = [json.loads(line) for line in lease.read_text(encoding="utf-8").splitlines()]
            if is_held_exclusively(lease) or any(any_lives(entry) for entry in entries):
                found.update(entry["key"] for entry in entries)
            else:
                lease.unlink(missing_ok=True)
        return frozenset(found)

    def _note(self, key: str) -> None:
        """Add ``key`` to this process's lease, which stays open and locked until the process ends."""
        if self._own is None:
            path = self._leases / f"{os.getpid()}-{token_hex(8)}"
            self._own = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try_flock(self._own, exclusive=True)
        os.write(self._own, (json.dumps({"key": key} | family()) + "\n").encode())


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
