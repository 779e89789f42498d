"""Fitting a collection: against a copy of the bytes it must read and write, and the memory it holds at full size.

    python -m benchmarks.fit [--device cuda] [--rows 131072] [--rounds 15] [--members 32] [--layers 32] [--folder DIR]

The first part fits 8 and 32 adapters of rank 16 with p = 3 in float32; bytes count the adapters' factors, the basis and the
coefficients once each. The second part maps ``--members`` adapters of an 8-billion-parameter model from files and fits them
into mapped files, once, while the anonymous memory of the process is watched (Linux). Needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import mmap
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from adapterbank import container
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import Layout
from adapterbank.rmm.collection import fit_collection
from adapterbank.rmm.objects import basis_plan, class_components, member_plan
from benchmarks.adapters import WEIGHTS, llama_8b, write_adapter
from benchmarks.harness import RESULTS, ROUNDS, Report, Spread, Target, interleaved, ratios

ROWS, RANK, COMPONENTS, MEMBERS, LAYERS = 131_072, 16, 3, 32, 32
LIMIT = 2.0  # GiB of anonymous memory beyond torch
_BLOCK = (4096, 4096)  # d_out, d_in of the modules in the first part


def measure(
    device: str = "cpu",
    rows: int = ROWS,
    rounds: int = ROUNDS,
    members: int = MEMBERS,
    layers: int = LAYERS,
    folder: Path | None = None,
) -> Report:
    """Both parts; ``layers`` 0 leaves the second one out."""
    figures, targets = [], []
    if layers:  # first, so that nothing freed before hides what it takes
        with tempfile.TemporaryDirectory(dir=folder) as place:
            figures = [_at_full_size(Path(place), members, layers, gauge, device) for gauge in ("given", "svd")]
        targets = [Target(f"GiB of anonymous memory, gauge {row['gauge']}", row["anonymous_gib"], LIMIT) for row in figures]
    figures += [_against_copy(n, device, rows, rounds) for n in (8, 32)]
    settings = {"device": device, "rank": RANK, "components": COMPONENTS, "rounds": rounds, "threads": torch.get_num_threads()}
    return Report("fit" if device == "cpu" else f"fit-{device}", settings, figures, targets)


def _against_copy(n: int, device: str, rows: int, rounds: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    names = [f"m{i:03}" for i in range(rows // sum(_BLOCK))]

    def factors() -> Factors:
        A, B = torch.randn(RANK, _BLOCK[1], generator=draw), torch.randn(_BLOCK[0], RANK, generator=draw)
        return Factors(A / _BLOCK[1] ** 0.5, B / RANK**0.5, 2.0)

    adapters = [Adapter({name: factors() for name in names}) for _ in range(n)]
    layout, D = Layout.of(adapters[0].shapes), len(names) * sum(_BLOCK)
    basis = {f"mean.{RANK}": torch.empty(D, RANK), f"components.{RANK}": torch.empty(COMPONENTS, D, RANK)}
    coefficients = [{f"coefficients.{RANK}": torch.empty(D, COMPONENTS)} for _ in range(n)]
    written = sum(part.nbytes for group in (basis, *coefficients) for part in group.values())
    total = n * D * RANK * 4 + written
    source = torch.randn(total // 8, generator=draw)
    target = torch.empty_like(source)
    jobs = {
        "fit": lambda _: fit_collection(adapters, layout, basis, coefficients, gauge="given", device=device),
        "copy": lambda _: target.copy_(source),
    }
    jobs["fit"](0)
    taken = interleaved(jobs, rounds)
    return {
        "case": "against a copy",
        "members": n,
        "rows": D,
        "bytes": total,
        "fit_s": Spread.of(taken["fit"]),
        "us_per_row": Spread.of(taken["fit"]).median / D * 1e6,
        "of_copy": ratios(taken["copy"], taken["fit"]),
    }


def _at_full_size(place: Path, members: int, layers: int, gauge: str, device: str) -> dict[str, Any]:
    modules = llama_8b(layers)
    adapters = []
    for number in range(members):
        path = place / f"adapter{number}"
        adapters.append(_mapped(path if path.exists() else write_adapter(path, modules, rank=RANK, seed=number)))
    shapes = [adapter.shapes for adapter in adapters]
    layout = Layout.union(shapes)
    components = class_components(layout, shapes, COMPONENTS)
    plan = basis_plan(layout, components, p=COMPONENTS, gauge=gauge)
    plans = [member_plan(layout, Layout.of(own), components, p=COMPONENTS) for own in shapes]
    basis = _output(place / f"{gauge}.basis", plan)
    coefficients = [_output(place / f"{gauge}.{i}", of_one) for i, of_one in enumerate(plans)]
    with AnonymousPeak() as peak:
        start = time.perf_counter()
        fit_collection(adapters, layout, basis, coefficients, gauge=gauge, device=device)
        seconds = time.perf_counter() - start
    return {
        "case": "full size",
        "gauge": gauge,
        "members": members,
        "rows": sum(block.rows for block in layout.classes),
        "read_gib": sum(adapter.parameters for adapter in adapters) * 2 / 2**30,
        "written_gib": (plan.size + sum(of_one.size for of_one in plans)) / 2**30,
        "seconds": seconds,
        "anonymous_gib": peak.bytes / 2**30,
    }


def _mapped(path: Path) -> Adapter:
    """A PEFT directory of linear modules as views of its mapped file."""
    with (path / WEIGHTS).open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(buffer[:8], "little")
    header: Mapping[str, Any] = json.loads(buffer[8 : 8 + length])

    def tensor(name: str) -> Tensor:
        (begin, end), shape = header[name]["data_offsets"], header[name]["shape"]
        flat = torch.frombuffer(buffer, dtype=torch.bfloat16, count=(end - begin) // 2, offset=8 + length + begin)
        return flat.view(shape)

    stems = [name.removesuffix(".lora_A.weight") for name in header if name.endswith(".lora_A.weight")]
    return Adapter({stem: Factors(tensor(f"{stem}.lora_A.weight"), tensor(f"{stem}.lora_B.weight"), 2.0) for stem in stems})


def _output(path: Path, plan: container.Plan) -> dict[str, Tensor]:
    """The tensors of an object to come, in a mapped file."""
    with path.open("w+b") as file:
        file.truncate(plan.size)
        buffer = mmap.mmap(file.fileno(), plan.size)
    return container.tensors(buffer, plan)


class AnonymousPeak:
    """The most anonymous memory of this process while the block runs, beyond what it had after its imports, in ``bytes``."""

    bytes = 0

    def __enter__(self) -> AnonymousPeak:
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, _anonymous() - IMPORTED)


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


IMPORTED = _anonymous()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the model in the second part; 0 leaves it out")
    parser.add_argument("--folder", type=Path, help="for about 4.5 GB of files; default: the temporary folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    report = measure(given.device, given.rows, given.rounds, given.members, given.layers, given.folder)
    print(report.text())
    report.store(given.results)


if __name__ == "__main__":
    main()
