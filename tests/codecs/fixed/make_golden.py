"""Writes the golden object and what it decodes to; run only when the format gets a new number.

python -m tests.codecs.fixed.make_golden
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import torch

from adapterbank.codecs import fixed
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors

from .made import adapter, factors

GOLDEN = Path(__file__).parent / "golden"


def original() -> Adapter:
    conv = factors(24, 27, 2, 7)
    modules = {
        **adapter(scaling=2.0).modules,
        "conv": Factors(conv.A, conv.B, kind="conv", kernel=(3, 3)),
        "zero": Factors(torch.ones(2, 5), torch.zeros(6, 2)),
    }
    return Adapter(modules, extras={"classifier.bias": torch.tensor([0.5, -0.0, float("inf")])})


def digests(coded: Adapter) -> dict[str, list[str]]:
    """The SHA-256 of each module's A and B as float32 in row-major order."""
    return {name: [sha256(side.numpy().tobytes()).hexdigest() for side in (f.A, f.B)] for name, f in coded.modules.items()}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    made = fixed.encode(original(), Target(max_error=0.25))
    (GOLDEN / "adapter-1.safetensors").write_bytes(made.data)
    (GOLDEN / "expected-1.json").write_text(json.dumps(digests(made.adapter), indent=1) + "\n")
