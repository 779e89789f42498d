"""The rivals on one collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

from benchmarks.baselines.collection import Collection
from benchmarks.baselines.table import Rival, rivals
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs
from benchmarks.rate_distortion.packing import Packed, PackedFamily, packed, unpacked
from benchmarks.rate_distortion.points import Outcome, Point, outcome

_PARTS = 8  # pieces of the list, so that no process is left with the slow ones

Found = tuple[Point, Mapping[str, Packed]]


def measure(
    family: Family,
    inputs: Inputs | None,
    pool: Executor,
    told: Callable[[str], None],
    kept: Callable[[Rival], bool],
    solved: Callable[[str], bool],
) -> Iterator[Outcome]:
    """One outcome for each rival and setting that is ``kept``; those that are not ``solved`` come without their adapters."""
    listed = [rival for rival in rivals(len(family.adapters), family.rank) if kept(rival)]
    sent = PackedFamily.of(family)
    parts = [listed[start::_PARTS] for start in range(_PARTS)]
    jobs = [pool.submit(of_part, sent, inputs, part, [r.name for r in part if solved(r.name)]) for part in parts if part]
    found: dict[str, Outcome] = {}
    for number, job in enumerate(jobs, start=1):
        for point, adapters in job.result():
            found[point.label] = Outcome(point, {name: unpacked(one) for name, one in adapters.items()})
        told(f"{family.name}: rivals {number}/{len(jobs)}")
    return (found[rival.name] for rival in listed)


def of_part(sent: PackedFamily, inputs: Inputs | None, part: Sequence[Rival], solved: Sequence[str]) -> list[Found]:
    """Points of some rivals on one collection, with the adapters of those that are ``solved``."""
    family = sent.family()
    collection = Collection.of(family.adapters)
    found: list[Found] = []
    for rival in part:
        form = rival.run(collection)
        made = outcome(family, (rival.method, rival.setting), form.bits, form.adapters, inputs)
        adapters = {name: packed(one) for name, one in made.adapters.items()} if rival.name in solved else {}
        found.append((made.point, adapters))
    return found
