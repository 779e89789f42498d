"""What a resident bank has done, counted, and as Prometheus text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Statistics:
    """Counts since the start, bytes as they are now, times in microseconds.

    ``hits``: the adapter was on the device; ``promoted``: it was in host memory; ``loaded``: it came from the disk; ``waited``:
    another thread was loading it already. ``written`` counts adapters written into buffers, ``launches`` the calls that did it.
    """

    hits: int = 0
    promoted: int = 0
    loaded: int = 0
    waited: int = 0
    evicted: int = 0
    written: int = 0
    launches: int = 0
    adapters: int = 0
    device_bytes: int = 0
    host_bytes: int = 0
    shared_bytes: int = 0
    load_microseconds: float = 0.0
    write_microseconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """The share of requests that found the adapter on the device; 0 before the first."""
        asked = self.hits + self.promoted + self.loaded + self.waited
        return self.hits / asked if asked else 0.0

    def add(self, name: str, number: float = 1) -> None:
        """Count so many more of ``name``."""
        setattr(self, name, getattr(self, name) + number)

    def copy(self) -> Statistics:
        """As they are now."""
        return Statistics(**{field.name: getattr(self, field.name) for field in fields(self)})


_HELP: Mapping[str, tuple[str, str]] = {
    "hits": ("counter", "Requests that found the adapter on the device."),
    "promoted": ("counter", "Requests that brought the adapter from host memory."),
    "loaded": ("counter", "Requests that loaded the adapter from the disk."),
    "waited": ("counter", "Requests that waited for another thread's load."),
    "evicted": ("counter", "Adapters that left the device."),
    "written": ("counter", "Adapters written into buffers."),
    "launches": ("counter", "Calls that wrote adapters into buffers."),
    "adapters": ("gauge", "Adapters on the device."),
    "device_bytes": ("gauge", "Bytes of adapters on the device."),
    "host_bytes": ("gauge", "Bytes of adapters in host memory."),
    "shared_bytes": ("gauge", "Bytes of what all adapters share on the device."),
    "load_microseconds": ("counter", "Time spent on loading."),
    "write_microseconds": ("counter", "Time that callers spent on writing; on a GPU the launch alone."),
}


def prometheus(statistics: Statistics, prefix: str = "adapterbank_serving") -> str:
    """The statistics in Prometheus's text format 0.0.4."""
    return "".join(_lines(statistics, prefix))


def _lines(statistics: Statistics, prefix: str) -> Iterator[str]:
    for name, (kind, text) in _HELP.items():
        full = f"{prefix}_{name}_total" if kind == "counter" else f"{prefix}_{name}"
        yield f"# HELP {full} {text}\n# TYPE {full} {kind}\n{full} {getattr(statistics, name)}\n"
