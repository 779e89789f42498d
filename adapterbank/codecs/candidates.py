"""Which predictions an adapter is worth trying with: cheap tests before anything is coded, the measured file decides after.

For a module, ``difference`` is a candidate if an ideal code of what is left over needs fewer bits at the same step; ``rows`` if the
singular vectors lie in the span of the reference's right vectors far more than chance has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapterbank.codecs import decoder
from adapterbank.codecs.components import SLOPE, ideal
from adapterbank.codecs.decoder import Part
from adapterbank.codecs.draft import draft
from adapterbank.codecs.prediction import DIFFERENCE, NONE, ROWS, Rows, Subject, difference
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.lora.adapter import Adapter, Factors

_SPAN = 0.15  # share of the energy of the right vectors, above chance, from which rows may pay their coefficients


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A way to code an adapter: what is coded of each module, in order of the names, and the digest of the reference or None."""

    subjects: Sequence[Subject]
    reference: str | None = None


def best_candidate(
    adapter: Adapter, alone: Sequence[Subject], references: Mapping[str, Any], energy: float, step: float
) -> Candidate | None:
    """The way that promises most at ``step`` of those that use a reference in some module, judged by a draft without sweeps; None
    if none is better than coding alone. References that need one themselves are passed over."""
    found = [Candidate(alone), *_candidates(adapter, alone, references, step)]
    if len(found) == 1:
        return None
    drafts = [draft(candidate.subjects, energy, step, 0) for candidate in found]
    costs = [drafted.error**2 * energy + SLOPE * step**2 * drafted.bits for drafted in drafts]
    best = found[costs.index(min(costs))]
    return None if best.reference is None else best


def _candidates(adapter: Adapter, alone: Sequence[Subject], references: Mapping[str, Any], step: float) -> Iterator[Candidate]:
    """At most one way of each kind per reference."""
    for digest, data in references.items():
        known = decoder.parts(data)
        if known.reference is not None:
            continue
        for kind in (DIFFERENCE, ROWS):
            subjects = [
                _better(own, factors, known.modules.get(name), kind, step)
                for own, (name, factors) in zip(alone, adapter.modules.items(), strict=True)
            ]
            if any(subject.kind != NONE for subject in subjects):
                yield Candidate(subjects, digest)


def _better(own: Subject, factors: Factors, part: Part | None, kind: str, step: float) -> Subject:
    """The module with the prediction ``kind`` from ``part`` if that looks better than alone."""
    if part is None or not len(part.y) or (part.shape.d_out, part.shape.d_in) != (factors.d_out, factors.d_in):
        return own
    if kind == ROWS:
        return Subject(own.spectrum, ROWS, part.rows) if _span(own.spectrum, part.rows) > _SPAN else own
    left = Spectrum.of(difference(factors, part.factors))
    return Subject(left, DIFFERENCE) if _cost(left, step) < _cost(own.spectrum, step) else own


def _cost(spectrum: Spectrum, step: float) -> float:
    error, bits = ideal(spectrum, step)
    return error + SLOPE * step**2 * bits


def _span(spectrum: Spectrum, rows: Rows) -> float:
    """Mean share of the right vectors that lies in the span of ``rows``, above what random vectors would have."""
    basis = torch.linalg.qr(rows.unit.double().T).Q
    inside = (spectrum.V.double() @ basis).square().sum(dim=1)
    return float(inside.mean()) - basis.shape[1] / spectrum.V.shape[1] if len(inside) else 0.0
