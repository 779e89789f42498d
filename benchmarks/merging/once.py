"""One merge of one module in a process of its own: ``python -m benchmarks.merging.once '{"tool": "peft", …}'`` prints JSON.

A process of its own, so that its peak of memory is that of this merge. Adapters are random, of rank 16 with α = r (there PEFT's
scaling, which its ``*_svd`` apply twice, is 1), in float32.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import Merged, merge
from benchmarks.merging import dense

RANK = 16
DENSITY = 0.2
OURS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # PEFT's combination types in our words
    "svd": ("svd", {}),
    "cat": ("cat", {}),
    "linear": ("linear_factors", {}),
    "ties_svd": ("ties", {"density": DENSITY}),
    "dare_linear_svd": ("dare_linear", {"density": DENSITY}),
    "dare_ties_svd": ("dare_ties", {"density": DENSITY}),
}


def factors(number: int, side: int) -> Factors:
    """Random factors of adapter ``number`` for one ``side × side`` module; B's columns get smaller."""
    draw = torch.Generator().manual_seed(number)
    sizes = torch.linspace(1.0, 0.3, RANK)
    return Factors(A=torch.randn(RANK, side, generator=draw) / side**0.5, B=torch.randn(side, RANK, generator=draw) * sizes)


def names(count: int) -> list[str]:
    """Stand-ins for content digests."""
    return [f"{number:064x}" for number in range(count)]


def ours(way: str, count: int, side: int) -> Callable[[], Merged]:
    """The merge by this package, ready to run; warmed up on a small one."""
    method, options = OURS[way]
    adapters = [Adapter({"m": factors(number, side)}) for number in range(count)]
    small = [Adapter({"m": factors(number, 64)}) for number in range(2)]
    merge(method, small, [1.0, 1.0], names=names(2), rank=RANK, options=options)
    rank = None if way in ("cat", "linear") else RANK
    return lambda: merge(method, adapters, [1.0] * count, names=names(count), rank=rank, options=options)


def peft_model(count: int, side: int) -> Any:
    """A PEFT model of one linear layer ``m`` with the adapters ``"0"``, ``"1"``, …."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["m"])
    base = torch.nn.Sequential()
    base.add_module("m", torch.nn.Linear(side, side, bias=False))
    model = get_peft_model(base, config, adapter_name="0")
    for number in range(1, count):
        model.add_adapter(str(number), config)
    layer = model.base_model.model.m
    with torch.no_grad():
        for number in range(count):
            value = factors(number, side)
            layer.lora_A[str(number)].weight.copy_(value.A)
            layer.lora_B[str(number)].weight.copy_(value.B)
    return model


def peft_merge(model: Any, way: str, count: int) -> None:
    """PEFT's ``add_weighted_adapter`` of all adapters, the result under the name ``"merged"``."""
    settings: dict[str, Any] = {"density": DENSITY} if "ties" in way or "dare" in way else {}
    settings |= {"svd_rank": RANK} if way.endswith("svd") else {}
    chosen = [str(number) for number in range(count)]
    model.add_weighted_adapter(chosen, [1.0] * count, "merged", combination_type=way, **settings)


def theirs(way: str, count: int, side: int) -> Callable[[], None]:
    """The same by PEFT, ready to run."""
    model = peft_model(count, side)
    return lambda: peft_merge(model, way, count)


def accuracy(way: str, count: int, side: int) -> dict[str, float]:
    """‖M − ours‖ over the least that rank 16 can have, by a dense SVD of an M computed densely and apart."""
    run = ours(way, count, side)
    merged = run().adapter.modules["m"]
    deltas = (factors(number, side) for number in range(count))
    exact = dense.MERGES[way](((f.B @ f.A for f in deltas)), names(count), DENSITY)
    residual = float((exact - merged.B @ merged.A).double().norm())  # a float32 sum of so many squares is off by 1/1000
    values = torch.linalg.svdvals(exact).double()
    least = float(values[RANK:].square().sum().sqrt())
    return {"residual": residual / float(exact.double().norm()), "over_least": residual / least}


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Its seconds, those of all processors together, and the MiB by which the process' peak rose."""
    before = _reset_peak()
    start, busy = time.perf_counter(), time.process_time()
    run()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": (_status("VmHWM") - before) / 1024}


def _reset_peak() -> int:
    """Kilobytes that are resident now, from where the peak counts (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    """Run what the argument says, as often as it says, and print a line of JSON for each time."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    way, count, side = given["way"], given["count"], given["side"]
    if given["tool"] == "accuracy":
        print(json.dumps(accuracy(way, count, side)))
        return
    run: Callable[[], object] = (ours if given["tool"] == "ours" else theirs)(way, count, side)
    for _ in range(given.get("times", 1)):
        print(json.dumps(timed(run)), flush=True)


if __name__ == "__main__":
    main()
