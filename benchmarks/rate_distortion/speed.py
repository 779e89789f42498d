"""How long coding takes: eight adapters on all cores, one decoding, and an adapter of an 8-billion-parameter model."""

from __future__ import annotations

import resource
import time
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from adapterbank.codecs.coder import decode, encode
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.adapters import llama_8b
from benchmarks.harness import Spread
from benchmarks.rate_distortion.alone import coded
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.packing import packed, processes

RANK, DECAY = 16, 0.85  # singular values of the large adapter fall by this factor from one to the next
_ERROR, _ROUNDS = 0.37, 15


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds and gibibytes; ``peak_gib`` is what the process took beyond its imports and the adapter itself."""

    eight_encode: float
    eight_bits: float
    decode: Spread
    large_parameters: int
    large_bits: float
    large_encode: float
    large_decode: float
    peak_gib: float


def measure(family: Family, effort: int, pool: Executor, layers: int = 32) -> Speed:
    """The first eight adapters of ``family``, and a Llama of so many layers, to a relative error of 0.37."""
    target = Target(max_error=_ERROR)
    arrays = [packed(adapter) for adapter in family.first(8).adapters.values()]
    start = time.perf_counter()
    objects = [job.result() for job in [pool.submit(coded, one, target, effort) for one in arrays]]
    eight = time.perf_counter() - start
    decoded = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        decode(objects[0])
        decoded.append(time.perf_counter() - start)
    with processes(1, threads=0) as fresh:
        large = fresh.submit(_large, layers, effort).result()
    bits = 8 * sum(map(len, objects)) / family.first(8).parameters
    return Speed(eight, bits, Spread.of(decoded), *large)


def large_adapter(layers: int, seed: int = 0) -> Adapter:
    """Factors for all linear layers of an 8-billion-parameter Llama, float32, with singular values that fall."""
    draw = torch.Generator().manual_seed(seed)
    weights = DECAY ** torch.arange(RANK)
    modules = {}
    for name, (d_out, d_in) in llama_8b(layers).items():
        A, B = torch.randn(RANK, d_in, generator=draw), torch.randn(d_out, RANK, generator=draw) * weights
        modules[name] = Factors(A / d_in**0.5, B / d_out**0.5)
    return Adapter(modules)


def _large(layers: int, effort: int) -> tuple[int, float, float, float, float]:
    """Parameters, bits per parameter, seconds to encode and to decode, and the peak of this process's memory in GiB."""
    adapter = large_adapter(layers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    data = encode(adapter, Target(max_error=_ERROR), effort=effort).data
    encoded = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    start = time.perf_counter()
    decode(data)
    return adapter.parameters, 8 * len(data) / adapter.parameters, encoded, time.perf_counter() - start, peak / 2**20
