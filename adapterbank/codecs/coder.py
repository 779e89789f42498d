"""The coder of single adapters: SVD gauge, trellis-coded quantization at one step, rate-distortion choices, entropy coding.

A relative ΔW error of 0.5 costs some 0.4 bits per parameter, 0.1 some 2.6: within a few per cent of Shannon's bound for
Gaussian singular vectors (docs/fidelity.md). One step Δ serves the whole adapter; it is found so that the decoded bytes meet
the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adapterbank.codecs import choices, decoder, fitting, form, writer
from adapterbank.codecs.candidates import Candidate, best_candidate
from adapterbank.codecs.draft import EFFORTS, groups
from adapterbank.codecs.fitting import Task, reached
from adapterbank.codecs.prediction import Subject
from adapterbank.codecs.spectrum import spectra
from adapterbank.codecs.target import Target
from adapterbank.errors import ErrorBoundError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError, delta_error

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """``data``, the object; ``adapter``, decoded from it; its ``error`` against the original, measured; ``references``, the
    digests of the objects without which it cannot be decoded."""

    data: bytes
    adapter: Adapter
    error: DeltaError
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What an object says of a module: its prediction (``none``, ``refined``, ``rows``), its rank, how many components are
    kept, and about how many bytes of the object are its own."""

    name: str
    predict: str
    rank: int
    live: int
    bytes: float


@dataclass(frozen=True, slots=True)
class Info:
    """What an object says without being decoded: the step Δ, the digests of its references, parameters of the adapter, bits of
    the object per parameter, and its modules."""

    step: float
    references: tuple[str, ...]
    parameters: int
    bits: float
    modules: tuple[ModuleInfo, ...]


def encode(
    adapter: Adapter,
    target: Target,
    *,
    effort: int = 1,
    references: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Coded:
    """Code ``adapter`` so that ``target`` is met by the decoded bytes.

    ``effort`` is 0 … 3: closed-loop sweeps and states of the trellis. ``references`` are objects of other adapters by
    digest, the most promising first, with those that they need; at most four are used, and only if the file gets smaller by
    it, or at a target of bits the error. ``progress`` is
    told (pieces done, pieces at most). Raises UsageError for an effort that does not exist, ErrorBoundError for a target that
    cannot be reached.
    """
    if effort not in range(len(EFFORTS)):
        raise UsageError(f"effort {effort!r}: expected one of 0 … {len(EFFORTS) - 1}")
    alone = [Subject(spectrum) for spectrum in spectra(adapter)]
    energy = sum(subject.spectrum.energy for subject in alone)
    meter = _Meter(progress)
    task = Task(adapter.shapes, energy, writer.extras_section(adapter.extras), target, effort, meter)
    meter.planned = task.drafts * len(groups(alone)) * (2 if references else 1)
    chosen = reached(task, Candidate(alone))
    if other := best_candidate(adapter, alone, references or {}, energy, chosen.step):
        with suppress(ErrorBoundError):  # a prediction that misses the target is none
            chosen = task.better(chosen, reached(task, other, near=chosen.step))
    decoded = decode(chosen.data, references=references, base_model=adapter.base_model)
    meter.finish()
    return Coded(chosen.data, decoded, delta_error(adapter, decoded), chosen.candidate.references)


def extent(adapter: Adapter) -> float:
    """Bits of an ideal code of the adapter at a relative error of 0.2: of adapters that have something in common, the one
    with the most is the best reference for the others."""
    return fitting.extent([Subject(spectrum) for spectrum in spectra(adapter)])


def decode(data: Any, *, references: Mapping[str, Any] | None = None, base_model: str | None = None) -> Adapter:
    """The adapter of an object: float32 factors of scaling 1, the same on every machine.

    A module has the rank of its kept components; one of which nothing was kept has rank 1 and is exactly zero. Raises
    IntegrityError for damaged bytes, NotFoundError if the object needs one that is not among ``references``.
    """
    decoded = decoder.parts(data, references)
    return Adapter({name: part.factors for name, part in decoded.modules.items()}, base_model, decoded.extras)


def inspect(data: Any) -> Info:
    """What an object says of itself. Raises IntegrityError for damaged bytes."""
    taken = form.read(data)
    chosen = choices.read(taken.sections.choices, [shape.rank for shape in taken.shapes])
    samples = [len(choice.gains) * (shape.d_out + shape.d_in) for shape, choice in zip(taken.shapes, chosen, strict=True)]
    shares = [len(data) * own / (sum(samples) or 1) for own in samples]
    modules = tuple(
        ModuleInfo(shape.name, choice.kind, shape.rank, len(choice.gains), share)
        for shape, choice, share in zip(taken.shapes, chosen, shares, strict=True)
    )
    parameters = sum(shape.parameters for shape in taken.shapes)
    return Info(taken.root_step**2, taken.references, parameters, 8 * len(data) / (parameters or 1), modules)


@dataclass(slots=True)
class _Meter:
    """Tells how far an encoding is; ``planned`` counts every piece that it may need."""

    progress: Progress | None
    planned: int = 1
    done: int = 0

    def __call__(self) -> None:
        self.done = min(self.done + 1, self.planned - 1)
        if self.progress is not None:
            self.progress(self.done, self.planned)

    def finish(self) -> None:
        """What was planned and not needed is done."""
        if self.progress is not None:
            self.progress(self.planned, self.planned)
