"""From the start of a process to an adapter in the buffer: from a bank on disk, and as PEFT reads it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from adapterbank.lora.layout import ModuleShape
from benchmarks.serving import llamas, rivals
from benchmarks.serving.switch import Bench

LAYERS, RANK, ROUNDS, QUALITY = 2, 16, 3, "balanced"

OURS = """
began = time.time()
from adapterbank import Bank
import adapterbank.serving.resident
imported = time.time()
with Bank.open(given["bank"]) as bank:
    resident = bank.serving(["new0@1"], form=given["form"], device=given["device"], dtype="bfloat16", backend=given["backend"])
    out = resident.buffer()
    opened = time.time()
    resident.write("new0@1", out)
    first = wait()
    resident.write("new0@1", out)
    again = wait()
"""
PEFTS = """
began = time.time()
import torch
from peft import PeftModel
from adapterbank.lora.layout import ModuleShape
from benchmarks.serving import rivals
imported = time.time()
shapes = [ModuleShape(*shape) for shape in given["shapes"]]
skeleton = rivals.skeleton(shapes, torch.device(given["device"]), torch.bfloat16)
opened = time.time()
model = PeftModel.from_pretrained(skeleton, given["folder"])
first = wait()
model.load_adapter(given["folder"], adapter_name="again", torch_device=given["device"])
model.set_adapter("again")
again = wait()
"""
_AROUND = """
import json, sys, time
given = json.loads(sys.argv[1])
def wait():
    import torch
    if given["device"] == "cuda":
        torch.cuda.synchronize()
    return time.time()
{0}
print(json.dumps({{"import": imported - began, "open": opened - imported, "first": first - opened, "again": again - first}}))
"""


def absent() -> str | None:
    """What a bank on disk needs and this machine lacks; None if nothing."""
    return next((name for name in ("sqlalchemy", "alembic", "zstandard") if find_spec(name) is None), None)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row for each way, medians of seconds: ``import``, ``open`` (the bank), ``first`` and ``again`` (a write, a load)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = bench.sizes[0]
        shapes = llamas.shapes(size, RANK, LAYERS)
        bench.say(f"cold start: {LAYERS} layers of {size} into a bank")
        given = {"bank": f"{name}/bank", "device": str(bench.device), "folder": _bank(folder, shapes)}
        given["shapes"] = [(shape.name, shape.d_out, shape.d_in, shape.rank) for shape in shapes]
        ways: dict[str, tuple[str, dict[str, Any]]] = {
            f"{form}, {backend}": (OURS, given | {"form": form, "backend": backend})
            for form in ("fixed", "raw")
            for backend in ("auto", bench.backend)
        }
        for way, (program, values) in (ways | {"PEFT": (PEFTS, given)}).items():
            bench.say(f"cold start: {way}")
            rounds = [_run(program, values) for _ in range(ROUNDS)]
            seconds = {key: median(each[key] for each in rounds) for key in rounds[0]}
            yield {"case": "cold", "way": way, "llama": size, "layers": LAYERS, "rank": RANK, "seconds": seconds}


def _bank(folder: Path, shapes: Sequence[ModuleShape]) -> str:
    """A bank with an adapter and its fixed-width form; the directory that the adapter came from."""
    import torch

    from adapterbank import Bank

    source = rivals.saved(folder / "0", shapes, 0, torch.bfloat16)
    with Bank.open(folder / "bank", create=True) as bank:
        bank.register(source, name="new0", base_model="llama")
        bank.encode("new0@1", quality=QUALITY, codec="fixed")
    return source


def _run(program: str, given: dict[str, Any]) -> dict[str, float]:
    """In a process of its own, whose start counts as an import does."""
    began = time.time()
    command = [sys.executable, "-c", _AROUND.format(program), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = time.time() - began
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds | {"process": taken}
