"""This coder through the bank: a collection registered, coded with references allowed, and read back from what is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

import torch

from adapterbank import Bank
from adapterbank.codecs.target import Target
from adapterbank.errors import ErrorBoundError
from adapterbank.peft_format.writer import encode, write_directory
from benchmarks.adapters import CONFIG, WEIGHTS
from benchmarks.rate_distortion.alone import overhead, words
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs
from benchmarks.rate_distortion.packing import Packed, PackedFamily, packed, unpacked
from benchmarks.rate_distortion.points import TOGETHER, Outcome, Unreached, outcome

Stored = tuple[int, list[int], list[Packed]]

_CHAIN = "model"  # versions that descend from each other have one name


def measure(
    family: Family, targets: Sequence[Target], effort: int, pool: Executor, inputs: Inputs | None, told: Callable[[str], None]
) -> Iterator[Outcome | Unreached]:
    """One outcome for each target: objects of the members, of the basis if any, configurations and module errors are counted.

    All is handed to the pool at once, each target with a bank of its own.
    """
    sent = PackedFamily.of(family)
    jobs = {target: pool.submit(coded, sent, target, effort) for target in targets}
    return _collected(family, jobs, inputs, told)


def _collected(
    family: Family, jobs: Mapping[Target, Future[Stored]], inputs: Inputs | None, told: Callable[[str], None]
) -> Iterator[Outcome | Unreached]:
    for number, (target, job) in enumerate(jobs.items(), start=1):
        try:
            shared, sizes, arrays = job.result()
        except ErrorBoundError as error:
            yield Unreached(family.name, TOGETHER, words(target), str(error))
            continue
        bits = 8 * (shared + sum(sizes) + overhead(family))
        yield outcome(family, (TOGETHER, words(target)), bits, [unpacked(one) for one in arrays], inputs, sizes)
        told(f"{family.name}: collection {number}/{len(jobs)}")


def coded(sent: PackedFamily, target: Target, effort: int) -> Stored:
    """Bytes of the basis's own object (0: a collection has none), of the members', and what the bank reconstructs from them."""
    family = sent.family()
    with tempfile.TemporaryDirectory() as place, Bank.open(Path(place) / "bank", create=True) as bank:
        refs = registered(bank, family, Path(place))
        wanted = {"bits": target.bits, "max_error": target.max_error}
        basis = bank.build_basis("all", list(refs.values()), codec="rd", effort=effort, force=True, **wanted)
        sizes = {member.version: member.bytes for member in bank.members(basis.ref)}
        found = [packed(bank.reconstruct(ref, basis=basis.ref)) for ref in refs.values()]
        return basis.bytes, [sizes[ref] for ref in refs.values()], found


def registered(bank: Bank, family: Family, place: Path) -> Mapping[str, str]:
    """The references of the family's adapters, registered from where they lie or else from directories written for it."""
    refs: dict[str, str] = {}
    for name in family.adapters:
        folder = place / name if family.folders is None else family.folders[name]
        if family.folders is None:
            written(family, name, folder)
        parent = (family.parents or {}).get(name)
        known = name if family.parents is None else _CHAIN
        refs[name] = bank.register(folder, name=known, parent=None if parent is None else refs[parent]).ref
    return refs


def written(family: Family, name: str, folder: Path) -> None:
    """One adapter of a family without folders, of scaling 1, as a PEFT directory with its configuration as it is."""
    weights = encode(family.adapters[name], family.configs[name], dtype=torch.float32)[WEIGHTS]
    write_directory(folder, {CONFIG: family.configs[name], WEIGHTS: weights})
