"""Which adapters are on the device: an LRU with a byte budget over a tier of host memory over the disk.

An adapter that is in use or pinned is never evicted. However many threads want one that is not there, one of them loads it.
What a call wants it gets all at once: while it waits for room it keeps nothing from the others, who are served in the order in
which they came.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
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


K = TypeVar("K", bound=Hashable)
H = TypeVar("H", bound=Sized)
D = TypeVar("D", bound=Sized)
_PATIENCE = 10.0  # seconds


@dataclass(slots=True)
class _Entry(Generic[H, D]):
    """``staged`` is on its way to the device, ``host`` kept beside it; ``wanted`` by so many calls that wait."""

    device: D | None = None
    staged: H | None = None
    host: H | None = None
    users: int = 0
    pins: int = 0
    wanted: int = 0
    loading: bool = False
    stale: bool = False

    @property
    def value(self) -> H | None:
        return self.staged if self.staged is not None else self.host

    @property
    def size(self) -> int | None:
        """Bytes on the device; None while they are not known."""
        there = self.device if self.device is not None else self.value
        return None if there is None else there.nbytes


class Cache(Generic[K, H, D]):
    """``load(key)`` reads into host memory; ``place`` brings it to the device, or starts to: it is called under the lock.

    ``budget`` bounds the bytes on the device, ``host_budget`` those in host memory (0: no such tier). Safe to share between
    threads.
    """

    def __init__(self, load: Callable[[K], H], place: Callable[[H], D], budget: int, host_budget: int = 0) -> None:
        self._load, self._place, self._budget, self._host_budget = load, place, budget, host_budget
        self._entries: OrderedDict[K, _Entry[H, D]] = OrderedDict()  # the least recently used first
        self._waiting: deque[object] = deque()  # for room, first come, first served
        self._changed = Condition()
        self.counted = Statistics()

    @contextmanager
    def use(self, keys: Sequence[K]) -> Iterator[list[D]]:
        """The adapters ``keys`` on the device, all or none; they do not leave it inside the block.

        Raises what ``load`` raises, UsageError if they are larger than the budget together, BusyError if they do not fit beside
        what is pinned, or what others use does not end.
        """
        values = self.acquire(keys)
        try:
            yield values
        finally:
            self.release(keys)

    def acquire(self, keys: Sequence[K]) -> list[D]:
        """:meth:`use` without a block: pair it with :meth:`release`."""
        names = dict.fromkeys(keys)
        with self._changed:
            if all(key in self._entries and self._entries[key].device is not None for key in names):
                self.counted.hits += len(names)
            else:
                self._bring(names)
            for key in names:
                self._entries[key].users += 1
                self._entries.move_to_end(key)
            return [device for key in keys if (device := self._entries[key].device) is not None]

    def release(self, keys: Sequence[K]) -> None:
        """End of a use."""
        with self._changed:
            for key in dict.fromkeys(keys):
                entry = self._entries[key]
                entry.users -= 1
                if entry.stale and not entry.users:
                    self._left(key, entry)
            self._changed.notify_all()

    def pin(self, key: K) -> None:
        """Bring ``key`` to the device and keep it there until as many :meth:`unpin`."""
        with self.use([key]), self._changed:
            self._entries[key].pins += 1

    def unpin(self, key: K) -> None:
        """Take one pin off. Raises UsageError if there is none."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or not entry.pins:
                raise UsageError(f"{key} is not pinned")
            entry.pins -= 1
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget everything: pins are off, what is asked for next is loaded anew, what is in use goes when that ends."""
        with self._changed:
            for key, entry in list(self._entries.items()):
                self._drop_host(entry)
                entry.pins, entry.stale = 0, bool(entry.users)
                if not entry.users:
                    self._left(key, entry)
            self._changed.notify_all()

    def _bring(self, names: Mapping[K, None]) -> None:
        """Bring what is not there, under the lock, which loading and waiting let go of."""
        began = perf_counter()
        for key in names:
            self._entries.setdefault(key, _Entry()).wanted += 1
        try:
            told = self._stage(names)
            with self._turn() as first:
                self._wait_for_room(names, first)
            for key in names:
                found = self._put(self._entries[key])
                self.counted.add(told.get(key, found))
            self.counted.load_microseconds += 1e6 * (perf_counter() - began)
        finally:
            for key in names:
                self._unwanted(key)
            self._changed.notify_all()

    def _stage(self, names: Mapping[K, None]) -> dict[K, str]:
        """Until each of ``names`` is on the device or in host memory; how those came that were not, as it is counted."""
        told: dict[K, str] = {}
        while (key := next((key for key in names if self._entries[key].size is None), None)) is not None:
            told[key] = self._staged(key, self._entries[key])
            self._check_fits(names)
        return told

    def _staged(self, key: K, entry: _Entry[H, D]) -> str:
        """Load ``key``, or wait until the thread that does so is done with it or has failed."""
        if not entry.loading:
            self._load_into(entry, key)
            return "loaded"
        while entry.loading:
            self._changed.wait()
        return "waited"

    def _load_into(self, entry: _Entry[H, D], key: K) -> None:
        entry.loading = True
        self._changed.release()
        value: H | None = None
        try:
            value = self._load(key)
        finally:
            self._changed.acquire()
            entry.staged, entry.loading = value, False
            self._changed.notify_all()

    def _size(self, names: Mapping[K, None]) -> int:
        """Bytes of those that are known."""
        return sum(self._entries[key].size or 0 for key in names)

    def _check_fits(self, names: Mapping[K, None]) -> None:
        """Refuse what can never fit, before more of it is loaded."""
        if (size := self._size(names)) > self._budget:
            raise UsageError(
                f"{_called(names)} {size} bytes, the budget is {self._budget}", hint="a larger budget, or a smaller form"
            )

    @contextmanager
    def _turn(self) -> Iterator[Callable[[], bool]]:
        """A place in the line for room; whether it is the first."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            yield lambda: self._waiting[0] is ticket
        finally:
            self._waiting.remove(ticket)

    def _wait_for_room(self, names: Mapping[K, None], first: Callable[[], bool]) -> None:
        until = monotonic() + _PATIENCE
        while True:
            self._stage(names)  # what was there may have left meanwhile
            if first() and self._made_room(names):
                return
            pinned = sum(entry.size or 0 for entry in self._others(names).values() if entry.pins)
            never = pinned + self._size(names) > self._budget
            if never or not self._changed.wait(max(0.0, until - monotonic())):
                held = f"{self.counted.device_bytes} of {self._budget}"
                raise BusyError(
                    f"{_called(names)} {self._size(names)} bytes; all {held} on the device are in use or pinned",
                    hint="a larger budget, or fewer pins",
                )

    def _others(self, names: Mapping[K, None]) -> dict[K, _Entry[H, D]]:
        return {key: entry for key, entry in self._entries.items() if entry.device is not None and key not in names}

    def _made_room(self, names: Mapping[K, None]) -> bool:
        """Evict until all of ``names`` fit, the least recently used first; nothing, if that is not enough."""
        need = sum(entry.size or 0 for key in names if (entry := self._entries[key]).device is None)
        if self.counted.device_bytes + need <= self._budget:
            return True
        free = {key: entry for key, entry in self._others(names).items() if not (entry.users or entry.pins)}
        if self.counted.device_bytes + need - sum(entry.size or 0 for entry in free.values()) > self._budget:
            return False
        for key, entry in free.items():
            self._left(key, entry)
            self.counted.evicted += 1
            if self.counted.device_bytes + need <= self._budget:
                break
        return True

    def _put(self, entry: _Entry[H, D]) -> str:
        value = entry.value
        if entry.device is not None or value is None:
            return "hits"
        entry.device, entry.staged, entry.stale = self._place(value), None, False
        self.counted.device_bytes += entry.device.nbytes
        self.counted.adapters += 1
        self._keep_in_host(entry, value)
        return "promoted"

    def _keep_in_host(self, entry: _Entry[H, D], value: H) -> None:
        """Keep ``value`` beside its copy on the device, the least recently used others going where there is no room."""
        if entry.host is not None or value.nbytes > self._host_budget:
            return
        for name, other in list(self._entries.items()):
            if self.counted.host_bytes + value.nbytes <= self._host_budget:
                break
            self._drop_host(other)
            self._forget_if_empty(name, other)
        entry.host = value
        self.counted.host_bytes += value.nbytes

    def _drop_host(self, entry: _Entry[H, D]) -> None:
        if entry.host is not None:
            self.counted.host_bytes -= entry.host.nbytes
            entry.host = None

    def _left(self, key: K, entry: _Entry[H, D]) -> None:
        if entry.device is not None:
            self.counted.device_bytes -= entry.device.nbytes
            self.counted.adapters -= 1
            entry.device = None
        self._forget_if_empty(key, entry)

    def _unwanted(self, key: K) -> None:
        entry = self._entries[key]
        entry.wanted -= 1
        if not entry.wanted:
            entry.staged = None
            self._forget_if_empty(key, entry)

    def _forget_if_empty(self, key: K, entry: _Entry[H, D]) -> None:
        if entry.device is None and entry.host is None and not (entry.loading or entry.users or entry.wanted):
            self._entries.pop(key, None)


def _called(names: Mapping[K, None]) -> str:
    return f"{next(iter(names))} takes" if len(names) == 1 else f"{len(names)} adapters at once take"
