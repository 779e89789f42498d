"""The lossless level on real files: bytes of the coded weights over those of the file, as float32 and rounded to bfloat16."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adapterbank.codecs.exact.decoder import decode
from adapterbank.codecs.exact.encoder import encode
from adapterbank.peft_format.writer import encode as peft_files
from benchmarks.adapters import WEIGHTS
from benchmarks.rate_distortion.families import Family

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Lossless:
    """``ratio``: coded bytes over the bytes of the files; every file came back bit for bit."""

    family: str
    dtype: str
    files: int
    ratio: float


def measure(family: Family, dtype: str) -> Lossless:
    """All adapters of a family, written as ``dtype``. Raises ValueError if a file does not come back."""
    before = after = 0
    for name, adapter in family.adapters.items():
        file = peft_files(adapter, family.configs[name], dtype=DTYPES[dtype])[WEIGHTS]
        coded = encode(file)
        if decode(coded) != file:
            raise ValueError(f"{family.name} {name} as {dtype} did not come back")
        before, after = before + len(file), after + len(coded)
    return Lossless(family.name, dtype, len(family.adapters), after / before)
