"""An adapter to its fixed-width form, at a wanted size or error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import sqrt

import numpy as np
import torch

from adapterbank.codecs.fixed import planes, sealed, table
from adapterbank.codecs.fixed.allocation import Array, Options, farthest, options, widths_of
from adapterbank.codecs.fixed.closed_loop import ModuleCodes, code_module
from adapterbank.codecs.fixed.form import EXTRA, FORMAT, KIND, decode
from adapterbank.codecs.fixed.search import Try, coarsest
from adapterbank.codecs.fixed.survey import Survey, survey
from adapterbank.codecs.target import Target
from adapterbank.container import TensorSpec
from adapterbank.errors import ErrorBoundError, UsageError
from adapterbank.linalg.workers import share_out
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError, delta_squared_norm, relative, squared_distance

Progress = Callable[[int, int], None]  # modules done, modules in all, counting every pass over them
_METADATA = {"kind": KIND, "format": FORMAT}
_PASSES = 5  # over all modules, for the progress: one to survey them, and usually so many to code them
_MARGIN = 1.0 - 1e-4  # of the wanted squared error: what float32 factors leave uncertain before it is measured


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An object, the adapter that its bytes decode to, and the error measured from it."""

    data: bytes
    adapter: Adapter
    error: DeltaError


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What stays the same over all tries: the adapter, its surveys by module, the choices, and whom to tell."""

    adapter: Adapter
    surveys: Mapping[str, Survey]
    options: Options
    sweeps: int
    tell: Callable[[], None]


def encode(
    adapter: Adapter,
    target: Target,
    *,
    components: Mapping[str, Sequence[int]] | None = None,
    sweeps: int = 1,
    progress: Progress | None = None,
) -> Encoded:
    """The adapter in fixed-width form, as small as ``target.max_error`` lets it be or as good as ``target.bits`` lets it be.

    ``components`` names, for each module, those kept, in descending order of singular values from 0 (a module left out keeps
    none); without it they are chosen. ``sweeps`` are those of the closed loop. Torch's number of threads does not enter.
    ``progress`` is told modules done and modules in all, over all passes. Raises UsageError for a ``step``, a module or
    component that is not there, or values that are not finite; ErrorBoundError if the target cannot be reached.
    """
    if target.step is not None:
        raise UsageError("the fixed-width form has no step", hint="give bits or max_error")
    _check_components(adapter, components or {})
    job = _begun(adapter, components, sweeps, progress)
    data = _within_bits(job, target.bits) if target.bits is not None else _within_error(job, target.max_error or 0.0)
    decoded = decode(data, base_model=adapter.base_model)
    error = _measured(adapter, decoded)
    if target.max_error is not None and error.total > target.max_error:
        raise ErrorBoundError(f"the fixed-width form has an error of {error.total:.6f}, expected at most {target.max_error}")
    if progress is not None:
        progress(_steps(adapter), _steps(adapter))
    return Encoded(data, decoded, error)


def _check_components(adapter: Adapter, components: Mapping[str, Sequence[int]]) -> None:
    for name, indices in components.items():
        factors = adapter.modules.get(name)
        if factors is None:
            raise UsageError(f"components: the adapter has no module {name!r}")
        wrong = [index for index in indices if not 0 <= index < factors.rank]
        if wrong:
            raise UsageError(f"components of module {name!r}: got {wrong[0]}, expected indices from 0 to {factors.rank - 1}")


def _begun(adapter: Adapter, components: Mapping[str, Sequence[int]] | None, sweeps: int, progress: Progress | None) -> _Job:
    done, most = [0], _steps(adapter)

    def tell() -> None:
        done[0] = min(done[0] + 1, most - 1)
        if progress is not None:
            progress(done[0], most)

    surveys: list[Survey] = []

    def survived(found: Survey) -> None:
        surveys.append(found)
        tell()

    share_out(lambda item: survey(*item), adapter.modules.items(), survived)
    named = dict(zip(adapter.modules, surveys, strict=True))
    return _Job(adapter, named, options(named, components), sweeps, tell)


def _steps(adapter: Adapter) -> int:
    return len(adapter.modules) * _PASSES + 1


def _measured(original: Adapter, decoded: Adapter) -> DeltaError:
    """What ``delta_error`` returns for two adapters of the same modules, these shared out to threads."""

    def both(name: str) -> tuple[float, float]:
        module = original.modules[name]
        return squared_distance(module, decoded.modules[name]), delta_squared_norm(module)

    found: list[tuple[float, float]] = []
    share_out(both, original.modules, found.append)
    total = relative(sum(error for error, _ in found), sum(norm for _, norm in found))
    return DeltaError(total, {name: relative(*pair) for name, pair in zip(original.modules, found, strict=True)})


def _within_bits(job: _Job, bits: float) -> bytes:
    """The object of least expected error with at most ``bits`` per parameter."""
    budget = int(bits * job.adapter.parameters / 8)
    low, high = job.options.multipliers
    least = _size(job, job.options.choose(high))
    if least > budget:
        raise ErrorBoundError(
            f"{bits} bits per parameter are {budget} bytes; the fixed-width form of this adapter takes {least} at the least",
            hint="ask for more bits",
        )
    multiplier = farthest(lambda m: _size(job, job.options.choose(m)) <= budget, high, low)
    return _object(job, _coded(job, job.options.choose(multiplier)))


def _within_error(job: _Job, max_error: float) -> bytes:
    """The smallest object found whose error, estimated before it is written, is below ``max_error``."""
    low, high = job.options.multipliers

    def attempt(aim: float) -> Try[list[ModuleCodes]]:
        multiplier = farthest(lambda m: job.options.error(job.options.choose(m)) <= aim, low, high)
        choice = job.options.choose(multiplier)
        coded = _coded(job, choice)
        return Try(job.options.error(choice), _relative(job, coded), multiplier == low, coded)

    found = coarsest(attempt, max_error**2 * _MARGIN)
    if found.reached > max_error**2:
        raise ErrorBoundError(
            f"the fixed-width form of this adapter has an error of {sqrt(found.reached):.6f} at the least, "
            f"expected at most {max_error}",
            hint="ask for a larger error",
        )
    return _object(job, found.result)


def _relative(job: _Job, coded: Sequence[ModuleCodes]) -> float:
    error = sum(module.squared_error for module in coded)
    return max(error, 0.0) / job.options.energy if job.options.energy > 0.0 else 0.0


def _coded(job: _Job, choice: Array) -> list[ModuleCodes]:
    widths = torch.from_numpy(widths_of(choice))
    first = [0, *accumulate(len(found.s) for found in job.surveys.values())]
    parts = [widths[:, begin:end] for begin, end in pairwise(first)]
    coded: list[ModuleCodes] = []

    def done(module: ModuleCodes) -> None:
        coded.append(module)
        job.tell()

    share_out(lambda item: code_module(*item, job.sweeps), zip(job.surveys.values(), parts, strict=True), done)
    return coded


def _size(job: _Job, choice: Array) -> int:
    """The bytes of the object of a choice, without coding anything."""
    widths, at, live, words = widths_of(choice), 0, [], 0
    for found in job.surveys.values():
        own = widths[:, at : at + len(found.s)].astype(np.int64)
        at += len(found.s)
        live.append(int((own[0] > 0).sum()))
        words += int(own[0].sum()) * planes.groups(found.u.shape[1]) + int(own[1].sum()) * planes.groups(found.v.shape[1])
    return sealed.size(_specs(job.adapter, live, words), _METADATA)


def _specs(adapter: Adapter, live: Sequence[int], words: int) -> dict[str, TensorSpec]:
    columns = sum(live)
    own = [
        TensorSpec("layout", "U8", (len(table.packed(adapter.shapes, live)),)),
        TensorSpec("scales", "BF16", (2, columns)),
        TensorSpec("widths", "U8", (2, columns)),
        TensorSpec("words", "I32", (words,)),
    ]
    extras = [TensorSpec.like(f"{EXTRA}{key}", tensor) for key, tensor in adapter.extras.items()]
    return {spec.name: spec for spec in own + extras}


def _object(job: _Job, coded: Sequence[ModuleCodes]) -> bytes:
    none = torch.empty(2, 0)
    words = [planes.pack(side, widths).flatten() for m in coded for side, widths in zip((m.B, m.A), m.widths, strict=True)]
    layout = table.packed(job.adapter.shapes, [module.widths.shape[1] for module in coded])
    arrays = {
        "layout": torch.frombuffer(bytearray(layout), dtype=torch.uint8),
        "scales": torch.cat([none.bfloat16(), *(module.scales for module in coded)], dim=1),
        "widths": torch.cat([none.to(torch.uint8), *(module.widths for module in coded)], dim=1),
        "words": torch.cat([torch.empty(0, dtype=torch.int32), *words]),
    }
    return sealed.written(arrays | {f"{EXTRA}{key}": tensor for key, tensor in job.adapter.extras.items()}, _METADATA)
