"""One batch in which every row names another adapter: products over the shared basis, PEFT's mixed batch, writing each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adapterbank.serving import kernels
from adapterbank.serving.apply import apply
from adapterbank.serving.slots import SlotLayout
from benchmarks.harness import Job, Spread, ratios
from benchmarks.serving import llamas
from benchmarks.serving.switch import Bench, timed

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def measure(bench: Bench, form: str = "rmm p=4 bfloat16") -> Iterator[dict[str, Any]]:
    """A row for each number of distinct adapters: one line of x for each, through one attention projection at rank 16."""
    from peft import LoraConfig, get_peft_model

    hidden = llamas.SIZES[bench.sizes[0]][0]
    shape = next(shape for shape in llamas.shapes(bench.sizes[0], 16, 1) if shape.name.endswith("q_proj"))
    layout = SlotLayout.of([shape])
    draw = torch.Generator().manual_seed(0)
    for count in COUNTS:
        bench.say(f"mixed batch of {count}")
        made = llamas.forms()[form](layout, bench.device, count)
        named = {f"a{i}": adapter for i, adapter in enumerate(made.adapters)}
        refs = list(named)
        x = torch.randn(count, hidden, generator=draw).to(bench.device, bench.dtype)
        config = LoraConfig(r=16, lora_alpha=16, target_modules=["q_proj"], init_lora_weights=False)
        model = get_peft_model(_Block(hidden).to(bench.device, bench.dtype), config, adapter_name="a0").eval()
        for ref in refs[1:]:
            model.add_adapter(ref, config)
        model.to(bench.device, bench.dtype)
        jobs = _jobs(bench, layout, named, x)
        jobs["PEFT"] = lambda _, model=model, x=x, refs=refs: _forward(model, x, refs)
        taken = timed(jobs, bench)
        yield {"case": "mixed", "form": form, "llama": bench.sizes[0], "module": shape.name, "adapters": count} | {
            "apply_seconds": Spread.of(taken["apply"]),
            "peft_seconds": Spread.of(taken["PEFT"]),
            "write_each_seconds": Spread.of(taken["write each"]),
            "peft_over_apply": ratios(taken["PEFT"], taken["apply"]),
            "write_each_over_apply": ratios(taken["write each"], taken["apply"]),
        }


class _Block(torch.nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, adapter_names: list[str] | None = None) -> Tensor:
        found: Tensor = self.q_proj(x)
        return found


def _forward(model: Any, x: Tensor, refs: list[str]) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(x, adapter_names=refs)
        return found


def _jobs(bench: Bench, layout: SlotLayout, named: dict[str, Any], x: Tensor) -> dict[str, Job]:
    refs = list(named)
    weight = torch.zeros(x.shape[1], layout.places[0].shape.d_out, device=bench.device, dtype=bench.dtype)
    outs = [torch.zeros(layout.size, device=bench.device, dtype=bench.dtype) for _ in refs]
    views = [next(iter(layout.views(out).values())) for out in outs]

    def write_each(_: int) -> Tensor:
        with torch.inference_mode():
            kernels.write(list(named.values()), outs, backend=bench.backend)
            return torch.cat([x[i : i + 1] @ f.A.T @ f.B.T for i, f in enumerate(views)]) + x @ weight

    def over_basis(_: int) -> Tensor:
        with torch.inference_mode():
            return apply(named, 0, x, refs) + x @ weight

    return {"apply": over_basis, "write each": write_each}
