"""Adapters on their way to another process: arrays, since tensors would travel through shared memory with a descriptor each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import torch

from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.rate_distortion.families import Family

Packed = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]]


def packed(adapter: Adapter) -> Packed:
    """The factors of linear modules as float32 arrays."""
    return {name: (f.A.float().numpy(), f.B.float().numpy(), f.scaling) for name, f in adapter.modules.items() if f.rank}


def unpacked(arrays: Packed) -> Adapter:
    """:func:`packed` undone."""
    return Adapter({name: Factors(torch.from_numpy(A), torch.from_numpy(B), s) for name, (A, B, s) in arrays.items()})


@dataclass(frozen=True, slots=True, eq=False)
class PackedFamily:
    """A family whose adapters are arrays."""

    bare: Family
    arrays: Mapping[str, Packed]

    @classmethod
    def of(cls, family: Family) -> PackedFamily:
        """The family, ready to travel."""
        arrays = {name: packed(adapter) for name, adapter in family.adapters.items()}
        return cls(replace(family, adapters={}), arrays)

    def family(self) -> Family:
        """The family as it was."""
        return replace(self.bare, adapters={name: unpacked(one) for name, one in self.arrays.items()})


@contextmanager
def processes(count: int, threads: int = 1) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, each computing in so many threads, 0 for all: on small matrices they wait for each other."""
    start = (torch.set_num_threads, (threads,)) if threads else (None, ())
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=start[0], initargs=start[1]) as pool:
        yield pool
