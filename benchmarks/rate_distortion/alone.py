"""This coder with every adapter by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future

from adapterbank.codecs.coder import decode, encode
from adapterbank.codecs.target import Target
from adapterbank.errors import ErrorBoundError
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs
from benchmarks.rate_distortion.packing import Packed, packed, unpacked
from benchmarks.rate_distortion.points import ALONE, Outcome, Unreached, outcome

_MODULE_ERROR = 4  # bytes of the error that is kept for each module


def measure(
    family: Family, targets: Sequence[Target], effort: int, pool: Executor, inputs: Inputs | None, told: Callable[[str], None]
) -> Iterator[Outcome | Unreached]:
    """One outcome for each target, every adapter brought to it by its own step. All is handed to the pool at once."""
    arrays = [packed(adapter) for adapter in family.adapters.values()]
    jobs = {target: [pool.submit(coded, one, target, effort) for one in arrays] for target in targets}
    return _collected(family, jobs, inputs, told)


def _collected(
    family: Family, jobs: Mapping[Target, Sequence[Future[bytes]]], inputs: Inputs | None, told: Callable[[str], None]
) -> Iterator[Outcome | Unreached]:
    for number, (target, pending) in enumerate(jobs.items(), start=1):
        try:
            objects = [job.result() for job in pending]
        except ErrorBoundError as error:
            yield Unreached(family.name, ALONE, words(target), str(error))
            continue
        sizes = [len(data) for data in objects]
        bits = 8 * (sum(sizes) + overhead(family))
        yield outcome(family, (ALONE, words(target)), bits, [decode(data) for data in objects], inputs, sizes)
        told(f"{family.name}: coder {number}/{len(jobs)}")


def coded(arrays: Packed, target: Target, effort: int) -> bytes:
    """The object of one adapter."""
    return encode(unpacked(arrays), target, effort=effort).data


def overhead(family: Family) -> int:
    """Bytes kept beside the coded objects: configurations, equal ones once, and an error for each module."""
    return family.config_bytes + _MODULE_ERROR * sum(len(adapter.modules) for adapter in family.adapters.values())


def words(target: Target) -> str:
    """The target, short: ``error 0.5``, ``0.22 bits``, ``step 1``."""
    if target.max_error is not None:
        return f"error {target.max_error:g}"
    return f"{target.bits:.3g} bits" if target.bits is not None else f"step {target.step:g}"
