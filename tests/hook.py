"""A tiny torch model for the adapters of ``tests.adapters``, its data, and a way to judge: hooks as a user would write them.

``setting(refs)`` is for ``--with``, ``accuracy(directory, refs)`` for ``--evaluate``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from adapterbank.calibration.tasks import Setting, Task


class Tiny(nn.Module):
    """``[N, 12]`` to logits ``[N, 3]``, with the modules that the synthetic adapters change."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        attention = nn.ModuleDict({"query": nn.Linear(12, 16), "value": nn.Linear(12, 16)})
        output = nn.ModuleDict({"dense": nn.Linear(16, 12)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([nn.ModuleDict({"attention": attention, "output": output})])})
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.encoder["layer"][0]
        inner = torch.tanh(layer["attention"]["query"](x)) * torch.sigmoid(layer["attention"]["value"](x))
        return self.head(x + layer["output"]["dense"](inner))


def task(seed: int, batches: int = 2) -> Task:
    draw = torch.Generator().manual_seed(seed)
    data = [(torch.randn(8, 12, generator=draw), torch.randint(0, 3, (8,), generator=draw)) for _ in range(batches)]
    return Task(data, lambda model, batch: model(batch[0]), lambda batch: batch[1])


def setting(refs: list[str]) -> Setting:
    return Setting(
        Tiny(), {ref: task(place) for place, ref in enumerate(refs)}, {ref: task(100 + place) for place, ref in enumerate(refs)}
    )


def accuracy(directory: str, refs: list[str]) -> dict[str, float]:
    """The share of right answers on each task, the merge added to the weights."""
    model = Tiny()
    tensors = load_file(Path(directory) / "adapter_model.safetensors")
    config = json.loads((Path(directory) / "adapter_config.json").read_text())
    with torch.no_grad():
        for key in (key for key in tensors if key.endswith("lora_A.weight")):
            module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            alpha = config["alpha_pattern"].get(module, config["lora_alpha"])
            B, A = tensors[key.replace("lora_A", "lora_B")], tensors[key]
            model.get_submodule(module).weight += alpha / len(A) * (B @ A).float()
        scores = {}
        for place, ref in enumerate(refs):
            data = task(100 + place)
            right = [(data.outputs(model, batch).argmax(-1) == data.targets(batch)).double().mean() for batch in data.batches]
            scores[ref] = float(torch.stack(right).mean())
    return scores


def broken(refs: list[str]) -> Setting:
    raise RuntimeError("no data today")


def nothing(refs: list[str]) -> None:
    return None
