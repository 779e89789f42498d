"""How adapters are switched without a bank: PEFT from a local disk, a file, a copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterbank.lora.layout import ModuleShape
from benchmarks.harness import Job

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def jobs(folder: Path, shapes: Sequence[ModuleShape], out: Tensor) -> dict[str, Job]:
    """Two adapters on disk, and each way to bring one of them to where ``out`` is."""
    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter
    from safetensors.torch import load_file

    device = out.device
    folders = [saved(folder / str(number), shapes, number, out.dtype) for number in range(2)]
    model = PeftModel.from_pretrained(skeleton(shapes, device, out.dtype), folders[0])
    host = torch.zeros(out.shape, dtype=out.dtype, pin_memory=out.is_cuda)
    names = iter(range(1_000_000))
    last: list[str] = []

    def load_adapter(number: int) -> None:
        name = f"new{next(names)}"
        model.load_adapter(folders[number % 2], adapter_name=name, torch_device=str(device))
        model.set_adapter(name)
        if last:
            model.delete_adapter(last.pop())
        last.append(name)

    def hotswap(number: int) -> None:
        hotswap_adapter(model, folders[number % 2], adapter_name="default", torch_device=str(device))

    found: dict[str, Job] = {
        "PEFT load_adapter": load_adapter,
        "PEFT hotswap": hotswap,
        "safetensors to device": lambda number: load_file(f"{folders[number % 2]}/{WEIGHTS}", device=str(device)),
        "pinned copy" if out.is_cuda else "copy from memory": lambda _: out.copy_(host, non_blocking=True),
    }
    return found


class _Tree(nn.Module):
    """Modules by their dotted names."""

    def put(self, path: Sequence[str], layer: nn.Module) -> None:
        if len(path) == 1:
            self.add_module(path[0], layer)
            return
        if path[0] not in self._modules:
            self.add_module(path[0], _Tree())
        child = self.get_submodule(path[0])
        assert isinstance(child, _Tree)
        child.put(path[1:], layer)

    def forward(self, x: Tensor) -> Tensor:
        return x


def skeleton(shapes: Sequence[ModuleShape], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Linear layers of these shapes whose weights are one number each, seen as often as is needed: no memory."""
    root = _Tree()
    for shape in shapes:
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = nn.Parameter(
            torch.zeros(1, 1, device=device, dtype=dtype).expand(shape.d_out, shape.d_in), requires_grad=False
        )
        layer.in_features, layer.out_features = shape.d_in, shape.d_out
        root.put(shape.name.split("."), layer)
    return root


def saved(folder: Path, shapes: Sequence[ModuleShape], seed: int, dtype: torch.dtype) -> str:
    from peft import LoraConfig
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for shape in shapes:
        prefix = f"base_model.model.{shape.name}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(shape.rank, shape.d_in, generator=draw).to(dtype)
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(shape.d_out, shape.rank, generator=draw).to(dtype)
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    targets = sorted({shape.name.rsplit(".", 1)[1] for shape in shapes})
    LoraConfig(r=shapes[0].rank, lora_alpha=shapes[0].rank, target_modules=targets).save_pretrained(str(folder))
    return str(folder)
