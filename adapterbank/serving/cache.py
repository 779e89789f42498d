"""Which adapters are on the device: an LRU with a byte budget over a tier of host memory over the disk.

An adapter that is in use or pinned is never evicted. However many threads want one that is not there, one of them loads it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from time import monotonic, perf_counter
from typing import Generic, Protocol, TypeVar

from adapterbank.errors import BusyError, UsageError
from adapterbank.serving.statistics import Statistics


class Sized(Protocol):
    """Anything that takes bytes."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)
_PATIENCE = 10.0  # seconds


@dataclass(slots=True)
class _Entry(Generic[T]):
    device: T | None = None
    host: T | None = None
    users: int = 0
    pins: int = 0
    loading: bool = False


class Cache(Generic[T]):
    """``load(key)`` reads into host memory, ``place`` copies to the device (the same value where both are one memory).

    ``budget`` bounds the bytes on the device, ``host_budget`` those in host memory (0: no such tier). Safe to share between
    threads.
    """

    def __init__(self, load: Callable[[str], T], place: Callable[[T], T], budget: int, host_budget: int = 0) -> None:
        self._load, self._place, self._budget, self._host_budget = load, place, budget, host_budget
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()  # the least recently used first
        self._changed = Condition()
        self.counted = Statistics()

    @contextmanager
    def use(self, key: str) -> Iterator[T]:
        """The adapter ``key`` on the device, which it does not leave inside the block. Raises what ``load`` raises, BusyError
        if everything there is in use or pinned, UsageError if it is larger than the budget."""
        value = self.acquire(key)
        try:
            yield value
        finally:
            self.release(key)

    def acquire(self, key: str) -> T:
        """:meth:`use` without a block: pair it with :meth:`release`."""
        with self._changed:
            entry, waited = self._settled(key)
            if entry.device is not None:
                entry.users += 1
                self._entries.move_to_end(key)
                self.counted.waited += waited
                self.counted.hits += not waited
                return entry.device
            entry.loading = True
        return self._brought(key, entry)

    def release(self, key: str) -> None:
        """End of a use."""
        with self._changed:
            self._entries[key].users -= 1
            self._changed.notify_all()

    def pin(self, key: str) -> None:
        """Bring ``key`` to the device and keep it there until as many :meth:`unpin`."""
        with self.use(key), self._changed:
            self._entries[key].pins += 1

    def unpin(self, key: str) -> None:
        """Take one pin off. Raises UsageError if there is none."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or not entry.pins:
                raise UsageError(f"{key} is not pinned")
            entry.pins -= 1

    def clear(self) -> None:
        """Forget everything that is not in use: what is asked for next is loaded anew, pins are off."""
        with self._changed:
            for key in [key for key, entry in self._entries.items() if not entry.users and not entry.loading]:
                entry = self._entries[key]
                self.counted.host_bytes -= 0 if entry.host is None else entry.host.nbytes
                entry.host, entry.pins = None, 0
                self._left(key, entry)

    def _settled(self, key: str) -> tuple[_Entry[T], bool]:
        """The entry of ``key`` once nobody is loading it, made if there is none, and whether that took waiting."""
        waited = False
        while (entry := self._entries.setdefault(key, _Entry())).loading:
            waited = True
            self._changed.wait()
        return entry, waited

    def _brought(self, key: str, entry: _Entry[T]) -> T:
        """Load and place ``key``, whose entry this thread has marked; others wait for it or for its failure."""
        began = perf_counter()
        promoted = entry.host is not None
        try:
            value = entry.host if entry.host is not None else self._load(key)
            with self._changed:
                self._make_room(value.nbytes, key)
                self.counted.device_bytes += value.nbytes
            device = self._placed(value)
        except BaseException:
            with self._changed:
                entry.loading = False
                if entry.host is None and not entry.users:
                    del self._entries[key]
                self._changed.notify_all()
            raise
        with self._changed:
            entry.device, entry.users, entry.loading = device, entry.users + 1, False
            self._entries.move_to_end(key)
            self._keep_in_host(entry, value)
            self.counted.adapters += 1
            self.counted.promoted += promoted
            self.counted.loaded += not promoted
            self.counted.load_microseconds += 1e6 * (perf_counter() - began)
            self._changed.notify_all()
        return device

    def _placed(self, value: T) -> T:
        try:
            return self._place(value)
        except BaseException:
            with self._changed:
                self.counted.device_bytes -= value.nbytes
            raise

    def _make_room(self, size: int, key: str) -> None:
        """Evict until ``size`` bytes fit, the least recently used first; uses are short, so they are waited for."""
        if size > self._budget:
            raise UsageError(
                f"{key} takes {size} bytes, the budget is {self._budget}", hint="a larger budget, or a smaller form"
            )
        until = monotonic() + _PATIENCE
        while self.counted.device_bytes + size > self._budget:
            there = [(name, entry) for name, entry in self._entries.items() if entry.device is not None and not entry.pins]
            free = next((pair for pair in there if not pair[1].users), None)
            if free is not None:
                self._left(*free)
                self.counted.evicted += 1
            elif not there or not self._changed.wait(max(0.0, until - monotonic())):
                held = f"{self.counted.device_bytes} of {self._budget}"
                raise BusyError(
                    f"{key} takes {size} bytes; all {held} on the device are in use or pinned",
                    hint="a larger budget, or fewer pins",
                )

    def _left(self, key: str, entry: _Entry[T]) -> None:
        if entry.device is not None:
            self.counted.device_bytes -= entry.device.nbytes
            self.counted.adapters -= 1
            entry.device = None
        self._forget_if_empty(key, entry)

    def _keep_in_host(self, entry: _Entry[T], value: T) -> None:
        """Keep ``value`` beside its copy on the device, the least recently used others going where there is no room."""
        if entry.host is not None or value.nbytes > self._host_budget:
            return
        for name, other in list(self._entries.items()):
            if self.counted.host_bytes + value.nbytes <= self._host_budget:
                break
            if other.host is not None:
                self.counted.host_bytes -= other.host.nbytes
                other.host = None
                self._forget_if_empty(name, other)
        entry.host = value
        self.counted.host_bytes += value.nbytes

    def _forget_if_empty(self, key: str, entry: _Entry[T]) -> None:
        if entry.device is None and entry.host is None and not entry.loading and not entry.users:
            self._entries.pop(key, None)
