"""Which predictions an adapter is worth trying with: cheap tests before anything is coded, the measured file decides after.

For a module, ``refined`` is a candidate if an ideal code of the rests costs less at the same step; ``rows`` if its right
vectors lie in the span of the references' far more than chance has it. Of all references the best to refine is tried (with
those that it needs), the best for rows, and the best pair for rows of which the second needs at most the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapterbank.codecs import decoder, form, refinement
from adapterbank.codecs.components import ideal
from adapterbank.codecs.decoder import Parts
from adapterbank.codecs.draft import draft
from adapterbank.codecs.prediction import NONE, Known, Rows, Subject
from adapterbank.codecs.quantize import SLOPE
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.lora.adapter import Adapter, Factors

_SPAN = 0.15  # share of the energy of the right vectors, above chance, from which rows may pay their coefficients


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A way to code an adapter: what is coded of each module, in order of the names, and the digests of its references."""

    subjects: Sequence[Subject]
    references: tuple[str, ...] = ()


def best_candidate(
    adapter: Adapter, alone: Sequence[Subject], references: Mapping[str, Any], energy: float, step: float
) -> Candidate | None:
    """The way that promises most at ``step`` of those that use a reference in some module, judged by a draft without sweeps;
    None if none is better than coding alone."""
    found = [Candidate(alone), *_candidates(adapter, alone, references, step)]
    if len(found) == 1:
        return None
    drafts = [draft(candidate.subjects, energy, step, 0) for candidate in found]
    costs = [drafted.error**2 * energy + SLOPE * step**2 * drafted.bits for drafted in drafts]
    best = found[costs.index(min(costs))]
    return best if best.references else None


def _candidates(adapter: Adapter, alone: Sequence[Subject], references: Mapping[str, Any], step: float) -> Iterator[Candidate]:
    known = decoder.all_parts(references)
    versions = [(digest, each) for digest, each in known.items() if len(each.references) < form.REFERENCES]
    refined = [Candidate(_refined(adapter, alone, each, step), (*each.references, digest)) for digest, each in versions]
    yield from _first(refined, lambda candidate: -_cost(candidate.subjects, step))
    single = [digest for digest, each in known.items() if not each.references]
    rows = [Candidate(_with_rows(adapter, alone, [known[digest]]), (digest,)) for digest in single]
    for first in _first(rows, _span):
        yield first
        others = [d for d, each in known.items() if d not in first.references and set(each.references) <= set(first.references)]
        pairs = [(*first.references, other) for other in others]
        more = [Candidate(_with_rows(adapter, alone, [known[digest] for digest in pair]), pair) for pair in pairs]
        yield from _first(more, _span)


def _first(found: Sequence[Candidate], worth: Callable[[Candidate], float]) -> list[Candidate]:
    """The one worth most of those that predict anything, as a list of one or none."""
    useful = [candidate for candidate in found if any(subject.kind != NONE for subject in candidate.subjects)]
    return [max(useful, key=worth)] if useful else []


def _refined(adapter: Adapter, alone: Sequence[Subject], reference: Parts, step: float) -> list[Subject]:
    """Every module from the components of a reference where that costs less."""
    subjects = []
    for own, (name, factors) in zip(alone, adapter.modules.items(), strict=True):
        part = reference.modules.get(name)
        if part is not None and len(part.gains) and _nearer(factors, part.factors):
            found = Subject(own.spectrum, refinement.known(own.spectrum, part.components))
            own = found if _cost([found], step) < _cost([own], step) else own
        subjects.append(own)
    return subjects


def _nearer(own: Factors, reference: Factors) -> bool:
    """Whether both have one shape and ΔW is nearer to the reference's than to zero: 2·⟨ΔW, ΔŴ⟩ > ‖ΔŴ‖²."""
    if (own.d_out, own.d_in) != (reference.d_out, reference.d_in):
        return False
    B, A = reference.B.double(), reference.A.double()
    overlap = own.scaling * ((own.B.double().T @ B) * (own.A.double() @ A.T)).sum()
    return bool(2.0 * overlap > ((B.T @ B) * (A @ A.T)).sum())


def _with_rows(adapter: Adapter, alone: Sequence[Subject], known: Sequence[Parts]) -> list[Subject]:
    """Every module with rows of the references where they explain enough."""
    subjects = []
    for own, (name, factors) in zip(alone, adapter.modules.items(), strict=True):
        rows = decoder.joined_rows(known, name, factors.d_in)
        subjects.append(own if rows is None or _explained(own.spectrum, rows) < _SPAN else Subject(own.spectrum, rows))
    return subjects


def _cost(subjects: Sequence[Subject], step: float) -> float:
    figures = [_ideal(subject, step) for subject in subjects]
    return float(sum(error + SLOPE * step**2 * bits for error, bits in figures))


def _ideal(subject: Subject, step: float) -> tuple[float, float]:
    if not isinstance(subject.known, Known):
        return ideal(subject.spectrum, step)
    return refinement.promised(subject.known, subject.spectrum.U.shape[1], subject.spectrum.V.shape[1], step)


def _span(candidate: Candidate) -> float:
    return sum((_explained(s.spectrum, s.known) for s in candidate.subjects if isinstance(s.known, Rows)), 0.0)


def _explained(spectrum: Spectrum, rows: Rows) -> float:
    """Mean share of the right vectors that lies in the span of ``rows``, above what random vectors would have."""
    if not len(spectrum.s):
        return 0.0
    basis = torch.linalg.qr(rows.unit.double().T).Q
    inside = float((spectrum.V.double() @ basis).square().sum(dim=1).mean())
    return inside - float(basis.shape[1] / spectrum.V.shape[1])
