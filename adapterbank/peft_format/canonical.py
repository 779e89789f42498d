"""The directory that every server reads alike: one rank and no scaling anywhere, names of modules by their last part.

Servers read α and r once for all modules and ignore patterns (vLLM, LoRAX), and PEFT swaps adapters in place only if their
configurations agree. So α = r, the scaling is in B, and smaller ranks are filled up with zeros, which change nothing.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.peft_format.foreign import CONFIG, WEIGHTS
from adapterbank.peft_format.writer import encode

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def canonical(adapter: Adapter, *, rank: int, dtype: torch.dtype, naming: str = "current") -> dict[str, bytes]:
    """The two files of the directory. Raises IncompatibleError for a module above ``rank`` or tensors beside the factors."""
    if adapter.extras:
        raise IncompatibleError(
            f"no server has a place for {', '.join(sorted(adapter.extras))}", hint="export keeps everything"
        )
    modules = {name: filled_up(name, factors, rank) for name, factors in adapter.modules.items()}
    files = encode(replace(adapter, modules=modules), None, dtype=dtype, naming=naming)
    fields = json.loads(files[CONFIG])
    fields["target_modules"] = sorted({name.rpartition(".")[2] for name in fields["target_modules"]})
    return {CONFIG: (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode(), WEIGHTS: files[WEIGHTS]}


def filled_up(name: str, factors: Factors, rank: int) -> Factors:
    """The same ΔW with ``rank`` components, those beyond its own all zeros."""
    if factors.rank > rank:
        raise IncompatibleError(f"module {name!r} has rank {factors.rank}, the directory rank {rank}")
    return replace(factors, A=_wider(factors.A, rank, 0), B=_wider(factors.B, rank, 1))


def _wider(matrix: Tensor, rank: int, side: int) -> Tensor:
    wide = matrix.new_zeros((rank, matrix.shape[1]) if side == 0 else (matrix.shape[0], rank))
    wide.narrow(side, 0, matrix.shape[side]).copy_(matrix)
    return wide
