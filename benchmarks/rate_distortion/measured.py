"""Everything that is measured on one collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from adapterbank.codecs.target import Target
from benchmarks.rate_distortion import alone, rivals, together, versions
from benchmarks.rate_distortion.accuracies import ORIGINAL, accuracies
from benchmarks.rate_distortion.encoder import LINES
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs
from benchmarks.rate_distortion.plan import Plan, kept, solved
from benchmarks.rate_distortion.points import OURS, Outcome, Point, Unreached
from benchmarks.rate_distortion.shannon import Spectrum, bits_at, bits_at_one_slope

_QUICK_TASKS, _QUICK_LINES = ("cr", "mpqa"), 100
_SAME = 0.25


@dataclass(frozen=True, slots=True)
class Bound:
    """The Gaussian Shannon bound in bits per parameter: each adapter brought to the error, and one slope for all."""

    error: float
    each: float
    one_slope: float


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What came out for one collection; ``accuracies`` by form and task, with the originals and no adapter at all;
    ``unreached`` are targets that this coder refused; ``version_bits``, by error, what all versions of a chain but the first
    need at least."""

    family: Family
    points: tuple[Point, ...]
    bounds: tuple[Bound, ...]
    accuracies: Mapping[str, Mapping[str, float]]
    unreached: tuple[Unreached, ...] = ()
    version_bits: Mapping[float, float] = field(default_factory=dict)

    @property
    def has_rivals(self) -> bool:
        return any(point.method not in OURS for point in self.points)

    @property
    def is_shown(self) -> bool:
        """Whether it has a table and a picture of its own; of chains of versions there are too many, all alike."""
        return self.has_rivals and self.family.parents is None

    def rows(self) -> list[dict[str, Any]]:
        """JSON values: every point, the bound, the accuracies."""
        family = self.family.name
        found = [{"case": "point"} | point.row() for point in self.points]
        found += [{"case": "bound", "family": family} | asdict(bound) for bound in self.bounds]
        found += [{"case": "versions", "family": family, "error": e, "least_bits": b} for e, b in self.version_bits.items()]
        found += [{"case": "unreached"} | asdict(one) for one in self.unreached]
        return found + [{"case": "accuracy", "form": label} | dict(of) for label, of in self.accuracies.items()]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all collections are measured with: the data, the processes, the inputs of the modules, and whom to tell."""

    data: Path
    pool: Executor
    inputs: Inputs | None
    effort: int
    quick: bool
    told: Callable[[str], None]


def measured(plan: Plan, bench: Bench) -> Measured:
    """Rivals, this coder alone and through the bank, the bound, and accuracies where the collection has task heads."""
    family = plan.make()
    labels = partial(solved, quick=bench.quick) if plan.bits else _none
    targets = [*plan.alone, *(within(family, bits) for bits in plan.bits)]
    made: list[Outcome | Unreached] = []
    if plan.rivals:
        made += rivals.measure(family, bench.inputs, bench.pool, bench.told, partial(kept, quick=bench.quick), labels)
    effort = bench.effort if plan.effort is None else plan.effort
    coded = alone.measure(family, targets, effort, bench.pool, bench.inputs, bench.told)
    shared = together.measure(family, plan.together, effort, bench.pool, bench.inputs, bench.told)
    made += [*coded, *shared]
    found = [one for one in made if isinstance(one, Outcome)]
    exact = _accuracies(family, found, bench) if plan.bits and family.heads is not None else {}
    points = tuple(_with_accuracy(outcome.point, exact) for outcome in found)
    unreached = tuple(one for one in made if isinstance(one, Unreached))
    return Measured(family, points, _bounds(family, plan), exact, unreached, _version_bits(family, plan))


def _none(_: str) -> bool:
    return False


def within(family: Family, bits: float) -> Target:
    """The target of an object that takes ``bits`` with what is kept beside it, or without where that is more already."""
    beside = 8 * alone.overhead(family) / family.parameters
    return Target(bits=bits - beside if bits > 2 * beside else bits)


def _accuracies(family: Family, found: list[Outcome], bench: Bench) -> dict[str, dict[str, float]]:
    forms = {outcome.point.label: outcome.adapters for outcome in found if outcome.adapters and _telling(outcome.point)}
    forms = {ORIGINAL: family.adapters} | forms
    lines = _QUICK_LINES if bench.quick else LINES
    if bench.quick:
        forms = {label: {task: adapters[task] for task in _QUICK_TASKS} for label, adapters in forms.items()}
    return accuracies(bench.data, str(family.heads), forms, lines, bench.pool, bench.told)


def _telling(point: Point) -> bool:
    """Whether the accuracy of a form says anything: below an error of 0.25 it is the original's."""
    return point.method not in OURS or point.error_mean > _SAME


def _with_accuracy(point: Point, exact: Mapping[str, Mapping[str, float]]) -> Point:
    of_tasks = exact.get(point.label)
    return point if of_tasks is None else replace(point, accuracy=mean(of_tasks.values()))


def _version_bits(family: Family, plan: Plan) -> dict[float, float]:
    errors = {target.max_error for target in plan.together if target.max_error is not None and family.parents is not None}
    return {error: versions.least_bits(family, error) for error in sorted(errors, reverse=True)}


def _bounds(family: Family, plan: Plan) -> tuple[Bound, ...]:
    spectra = [Spectrum.of(adapter) for adapter in family.adapters.values()]
    errors = [target.max_error for target in plan.alone if target.max_error is not None]
    return tuple(Bound(error, bits_at(spectra, error), bits_at_one_slope(spectra, error)) for error in errors)
