"""A resident bank under load: Zipf-distributed requests from many threads, memory over many switches."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.resident import Resident
from adapterbank.serving.slots import SlotLayout
from benchmarks.harness import Spread
from benchmarks.serving import llamas
from benchmarks.serving.switch import Bench

ZIPF = 1.1
QUALITY = "balanced"


@dataclass(frozen=True, slots=True)
class Load:
    """So many ``adapters``, ``threads`` that ask ``requests`` times each, ``switches`` in a row; a ``share`` of them fits."""

    adapters: int = 1_000
    threads: int = 8
    requests: int = 500
    switches: int = 100_000
    share: float = 0.5


class Synthetic:
    """A source of fixed-width adapters with random words: loading one copies it, as reading a mapped object does."""

    def __init__(self, layout: SlotLayout, count: int) -> None:
        self.layout = layout
        self.refs = tuple(f"a{i}@1" for i in range(count))
        self._one = llamas.forms()[f"fixed {QUALITY}"](layout, torch.device("cpu"), 1).adapters[0]
        self.shared_bytes, self.own = 0, self._one.nbytes

    def version(self, ref: str) -> str:
        return ref

    def load(self, version: str) -> Packed:
        copied = self._one.moved(torch.Tensor.clone)
        return copied.moved(torch.Tensor.pin_memory) if torch.cuda.is_available() else copied

    def error(self, version: str) -> float:
        return 0.0

    def lora_config(self, version: str) -> Any:
        raise NotImplementedError("no bank has these adapters")

    def refreshed(self) -> Synthetic:
        return self

    def laid_out(self, layout: SlotLayout) -> Synthetic:
        return Synthetic(layout, len(self.refs))


def measure(bench: Bench, load: Load) -> Iterator[dict[str, Any]]:
    """Rows ``zipf`` and ``growth``: the linear layers of the first of ``bench.sizes``, two of them, at rank 16."""
    layout = SlotLayout.of(llamas.shapes(bench.sizes[0], 16, bench.layers or 2))
    source = Synthetic(layout, load.adapters)
    budget = int(load.share * load.adapters * source.own)
    resident = Resident(
        source, device=bench.device, dtype=bench.dtype, budget=budget, host_budget=2 * budget, backend=bench.backend
    )
    resident.write(source.refs[0], resident.buffer())  # compiles
    common = {"llama": bench.sizes[0], "rank": 16, "parameters": layout.size, "adapters": load.adapters}
    yield {"case": "zipf", "threads": load.threads, "share_that_fits": load.share, **common} | _zipf(resident, bench, load)
    yield {"case": "growth", **common} | _growth(resident, bench, load)


def _zipf(resident: Resident, bench: Bench, load: Load) -> dict[str, Any]:
    """Every thread has a buffer of its own."""
    weights = 1.0 / np.arange(1, load.adapters + 1) ** ZIPF
    taken: list[list[float]] = [[] for _ in range(load.threads)]
    before = resident.statistics()

    def serve(thread: int) -> None:
        rng, out = np.random.default_rng(thread), resident.buffer()
        for index in rng.choice(load.adapters, load.requests, p=weights / weights.sum()):
            began = time.perf_counter()
            resident.write(resident.refs[index], out)
            _wait(bench)
            taken[thread].append(time.perf_counter() - began)

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(load.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, every = resident.statistics(), sorted(second for each in taken for second in each)
    return {
        "requests": len(every),
        "p50_seconds": every[len(every) // 2],
        "p99_seconds": every[99 * len(every) // 100],
        "hit_rate": (after.hits - before.hits) / len(every),
    }


def _growth(resident: Resident, bench: Bench, load: Load) -> dict[str, Any]:
    """Peak memory of the process after a tenth of the switches, and after all, among adapters that fit."""
    out, refs = resident.buffer(), resident.refs[: max(1, int(load.share * load.adapters / 2))]
    peaks, taken = [], []
    for number in range(load.switches):
        began = time.perf_counter()
        resident.write(refs[number % len(refs)], out)
        taken.append(time.perf_counter() - began)
        if number + 1 in (load.switches // 10, load.switches):
            _wait(bench)
            peaks.append(_peak(bench))
    return {"switches": load.switches, "seconds": Spread.of(taken), "grown_bytes": peaks[-1] - peaks[0]}


def _peak(bench: Bench) -> int:
    if bench.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _wait(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()
