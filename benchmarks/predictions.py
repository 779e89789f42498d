"""Predictions that the coder has not, and those it has: how many bits they save of coding each adapter alone, at equal error.

    python -m benchmarks.predictions [--data DIR] [--errors E …] [--results DIR]

The rows of the mean are coded at several sizes and the best one counts. RMM's mean and components are given exactly, once
for nothing and once for a bit a number; a coefficient costs two bits. Bits are those of drafts without sweeps; a module is
predicted where an ideal code says that it pays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch

from adapterbank.codecs import decoder
from adapterbank.codecs.coder import decode, encode, extent
from adapterbank.codecs.components import ideal
from adapterbank.codecs.draft import draft
from adapterbank.codecs.prediction import Subject
from adapterbank.codecs.quantize import SLOPE
from adapterbank.codecs.spectrum import Spectrum
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors
from benchmarks.baselines.collection import Collection
from benchmarks.baselines.reversible import reversible
from benchmarks.harness import RESULTS, Report
from benchmarks.rate_distortion.families import Family, real
from benchmarks.rate_distortion.synthetic import chain

DATA = Path(__file__).resolve().parents[2] / "shared" / "adapters"
FAMILIES = ("r16", "clinc", "r16_sharedinit")
MEAN_ERRORS = (0.6, 0.45, 0.3)
COEFFICIENT, SHARED = 2.0, 1.0  # bits of a coefficient, and of a number of the mean and the components
GAUGES = ("given", "svd")
STEPS = (0.1, 0.2, 0.3)  # of chains of versions
_DIGEST = 40  # bytes that a reference takes to name


class Alone:
    """One adapter, coded by itself to an error: its bits, and the step that others are compared at."""

    def __init__(self, adapter: Adapter, error: float) -> None:
        self.adapter = adapter
        self.subjects = [Subject(Spectrum.of(factors)) for factors in adapter.modules.values()]
        self.energy = sum(subject.spectrum.energy for subject in self.subjects)
        coded = encode(adapter, Target(max_error=error), effort=0)
        self.data, self.bits = coded.data, 8.0 * len(coded.data)
        drafted = [draft(self.subjects, self.energy, step, 0) for step in self._steps(error)]
        nearest = min(drafted, key=lambda each: abs(each.error - error))
        self.step, self.cost = nearest.step, self._cost(nearest.error, nearest.bits, nearest.step)

    def saving(self, subjects: Sequence[Subject], more: float) -> float:
        """Bits that ``subjects`` save, ``more`` bits being spent beside them: at equal slope, λ turns error into bits."""
        found = draft(subjects, self.energy, self.step, 0)
        left = self._cost(found.error, found.bits + more, self.step)
        return (self.cost - left) / (SLOPE * self.step**2)

    def _cost(self, error: float, bits: float, step: float) -> float:
        return error**2 * self.energy + SLOPE * step**2 * bits

    def _steps(self, error: float) -> list[float]:
        """Steps around the one at which an ideal code has this error."""
        low, high = 1e-6, 1e3
        for _ in range(60):
            middle = (low * high) ** 0.5
            coarse = sum(ideal(s.spectrum, middle)[0] for s in self.subjects) > error**2 * self.energy
            low, high = (low, middle) if coarse else (middle, high)
        return [low * factor for factor in (0.85, 0.9, 0.95, 1.0)]


def measure(family: Family, error: float) -> list[dict[str, float | str]]:
    """Savings in per cent of all bits of the collection, by prediction."""
    each = [Alone(adapter, error) for adapter in family.adapters.values()]
    total = sum(one.bits for one in each)
    found = {
        "rows and components of members": _members(each, error, family.parents is not None),
        "differences to members": _differences(each),
    }
    if family.parents is None:
        found |= {"rows of the mean": _mean_rows(each)} | _reversible(family, each)
    return [
        {"family": family.name, "error": error, "prediction": name, "saving": 100.0 * bits / total}
        for name, bits in found.items()
    ]


def _reversible(family: Family, each: Sequence[Alone]) -> dict[str, float]:
    found = {}
    for gauge in GAUGES:
        for p in (0, 1):
            saved = _rmm(family, each, p, gauge)
            shared = SHARED * (1 + p) * each[0].adapter.parameters if saved else 0.0
            found[f"RMM p={p}, gauge {gauge}, basis free"] = saved
            found[f"RMM p={p}, gauge {gauge}, basis paid"] = saved - shared
    return found


def _members(each: Sequence[Alone], error: float, versions: bool) -> float:
    """What the coder does in a collection, whole objects counted."""
    objects: dict[str, bytes] = {}
    saved = 0.0
    for one in each if versions else sorted(each, key=lambda one: -extent(one.adapter)):
        first = objects if versions else dict(list(objects.items())[:2])
        data = encode(one.adapter, Target(max_error=error), effort=0, references=first).data
        objects[sha256(data).hexdigest()] = data
        saved += one.bits - 8.0 * len(data)
    return saved


def _differences(each: Sequence[Alone]) -> float:
    """Of each member ΔW less what another decodes to, where an ideal code of that costs less: of all before it the best one."""
    saved = 0.0
    for place, one in enumerate(each):
        options = [0.0]
        for other in each[:place]:
            known = decode(other.data).modules
            pairs = zip(one.subjects, one.adapter.modules.items(), strict=True)
            left = [(own, Subject(Spectrum.of(difference(factors, known[name])))) for own, (name, factors) in pairs]
            subjects = [found if _ideal(found, one.step) < _ideal(own, one.step) else own for own, found in left]
            if any(found is not own for found, own in zip(subjects, one.subjects, strict=True)):
                options.append(one.saving(subjects, 8.0 * _DIGEST))
        saved += max(options)
    return saved


def difference(own: Factors, reference: Factors) -> Factors:
    """Factors of ΔW − ΔŴ_reference, of the rank of both together."""
    B = torch.cat([own.B.double() * own.scaling, reference.B.double() * -reference.scaling], dim=1)
    return Factors(torch.cat([own.A.double(), reference.A.double()]), B)


def _mean_rows(each: Sequence[Alone]) -> float:
    """Rows of the mean of all A, coded once at the size that serves best, predict the rows of every adapter."""
    names = list(each[0].adapter.modules)
    means = {name: torch.stack([one.adapter.modules[name].A.double() for one in each]).mean(dim=0) for name in names}
    mean = Adapter({name: Factors(A, torch.eye(len(A), dtype=torch.float64)) for name, A in means.items()})
    best = float("-inf")
    for error in MEAN_ERRORS:
        data = encode(mean, Target(max_error=error), effort=0).data
        known = decoder.parts(data)
        saved = -8.0 * len(data)
        for one in each:
            rows = [decoder.joined_rows([known], name, factors.d_in) for name, factors in one.adapter.modules.items()]
            subjects = [Subject(own.spectrum, row) for own, row in zip(one.subjects, rows, strict=True)]
            saved += one.saving(subjects, 0.0)
        best = max(best, saved)
    return best


def _rmm(family: Family, each: Sequence[Alone], p: int, gauge: str) -> float:
    """What RMM rebuilds of every adapter is taken off it where that pays; mean and components are free."""
    rebuilt = reversible(Collection.of(family.adapters), p, gauge).adapters
    saved = 0.0
    for one, known in zip(each, rebuilt, strict=True):
        subjects, more = [], 0.0
        for own, (name, factors) in zip(one.subjects, one.adapter.modules.items(), strict=True):
            left = Subject(Spectrum.of(difference(factors, known.modules[name])))
            price = COEFFICIENT * p * (factors.d_in + factors.d_out)
            pays = _ideal(left, one.step) + SLOPE * one.step**2 * price < _ideal(own, one.step)
            subjects.append(left if pays else own)
            more += price if pays else 0.0
        saved += max(0.0, one.saving(subjects, more))
    return saved


def _ideal(subject: Subject, step: float) -> float:
    error, bits = ideal(subject.spectrum, step)
    return error + SLOPE * step**2 * bits


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictions", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real adapters; default: ../shared/adapters")
    parser.add_argument("--errors", type=float, nargs="+", default=[0.5, 0.28, 0.15, 0.08])
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = []
    source = real(given.data, FAMILIES[0])
    families = [source, *(real(given.data, name) for name in FAMILIES[1:])]
    families += [chain(source, share, kind) for kind in ("random", "toward") for share in STEPS]
    for family in families:
        for error in given.errors:
            for row in measure(family, error):
                rows.append(row)
                print("{family:15} {error:5} {prediction:36} {saving:7.2f} %".format(**row), flush=True)
    Report("predictions", {"mean_errors": list(MEAN_ERRORS), "coefficient_bits": COEFFICIENT}, rows, []).store(given.results)


if __name__ == "__main__":
    main()
