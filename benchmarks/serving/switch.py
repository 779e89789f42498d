"""How long it takes to write another adapter into a model's buffer, from each resident form and as it is done without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterbank.serving import kernels
from adapterbank.serving.slots import SlotLayout
from benchmarks.harness import Job, Spread, interleaved, ratios
from benchmarks.serving import llamas, rivals

RANKS = (8, 16, 64)
MANY = (100, 1_000, 10_000)
COPIED = 1 << 28  # bytes, at least: what a copy of fewer takes may be a cache's speed and not the memory's


@dataclass(frozen=True, slots=True)
class Bench:
    """On which device, in which dtype; ``sizes`` of Llama, of ``layers`` layers (None: all), ``rounds`` of each measurement;
    what all adapters share may take ``most`` bytes."""

    device: torch.device
    sizes: Sequence[str]
    ranks: Sequence[int] = RANKS
    layers: int | None = None
    rounds: int = 15
    most: int = 1 << 31
    dtype: torch.dtype = torch.bfloat16
    say: Callable[[str], None] = print

    @property
    def backend(self) -> str:
        return kernels.backend_for("auto", self.device)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row for each layout, rank and form, and one for each rival."""
    for size, rank in product(bench.sizes, bench.ranks):
        layout = SlotLayout.of(llamas.shapes(size, rank, bench.layers))
        out = torch.zeros(layout.size, dtype=bench.dtype, device=bench.device)
        case = {"case": "switch", "llama": size, "rank": rank, "parameters": layout.size}
        for name, make in llamas.forms().items():
            if llamas.needs(name, layout) <= bench.most:
                bench.say(f"{size}, rank {rank}: {name}")
                yield case | {"form": name} | _form(make(layout, bench.device, 2), out, bench)
        if rank == 16 or size != "70B":
            bench.say(f"{size}, rank {rank}: PEFT, files and copies")
            with tempfile.TemporaryDirectory() as folder:
                yield from (case | row for row in _rivals(Path(folder), size, rank, out, bench))


def _form(form: llamas.Form, out: Tensor, bench: Bench) -> dict[str, Any]:
    moved = form.moved + out.nbytes
    copied = max(moved, COPIED)
    source = torch.ones(copied // 2, dtype=torch.int8, device=bench.device)
    target = torch.ones_like(source)
    adapters = form.adapters
    jobs: dict[str, Job] = {
        "write": lambda number: kernels.write([adapters[number % len(adapters)]], [out], backend=bench.backend),
        "copy": lambda _: target.copy_(source),
    }
    taken = timed(jobs, bench)
    seconds = Spread.of(taken["write"])
    return {
        "seconds": seconds,
        "bytes_moved": moved,
        "gb_per_s": moved / seconds.median / 1e9,
        "of_copy": ratios([seconds * moved / copied for seconds in taken["copy"]], taken["write"]),
        "copy_gb_per_s": copied / Spread.of(taken["copy"]).median / 1e9,
        "bits_per_parameter": 8 * form.own / form.parameters,
        "shared_bytes": form.shared,
        "resident_bytes": {str(count): form.resident(count) for count in MANY},
    }


def _rivals(folder: Path, size: str, rank: int, out: Tensor, bench: Bench) -> Iterator[dict[str, Any]]:
    shapes = llamas.shapes(size, rank, bench.layers)
    for name, job in rivals.jobs(folder, shapes, out).items():
        yield {"form": name, "seconds": Spread.of(timed({name: job}, bench, max(3, bench.rounds // 3))[name])}


def timed(jobs: dict[str, Job], bench: Bench, rounds: int | None = None) -> dict[str, list[float]]:
    """Interleaved; the device has finished when a job has. The first two calls of each, which compile, do not count."""
    cuda = bench.device.type == "cuda"

    def finished(job: Job) -> Job:
        def run(number: int) -> None:
            job(number)
            if cuda:
                torch.cuda.synchronize()

        return run

    ready = {name: finished(job) for name, job in jobs.items()}
    for number in range(2):
        for job in ready.values():
            job(number)
    return interleaved(ready, rounds or bench.rounds)
