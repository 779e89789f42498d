"""This coder through the bank: a collection registered, coded with references allowed, and read back from what is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from adapterbank import Bank
from adapterbank.codecs.target import Target
from adapterbank.peft_format.writer import encode, write_directory
from benchmarks.adapters import CONFIG, WEIGHTS
from benchmarks.rate_distortion.alone import overhead, words
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import Inputs
from benchmarks.rate_distortion.points import TOGETHER, Outcome, outcome

_CHAIN = "model"  # versions that descend from each other have one name


def measure(
    family: Family, targets: Sequence[Target], effort: int, inputs: Inputs | None, told: Callable[[str], None]
) -> Iterator[Outcome]:
    """One outcome for each target: objects of the members and of the basis, configurations and module errors are counted."""
    with tempfile.TemporaryDirectory() as place, Bank.open(Path(place) / "bank", create=True) as bank:
        refs = registered(bank, family, Path(place))
        for number, target in enumerate(targets, start=1):
            name = f"target{number}"
            basis = bank.build_basis(
                name, list(refs.values()), codec="rd", bits=target.bits, max_error=target.max_error, effort=effort, force=True
            )
            sizes = {member.version: member.bytes for member in bank.members(basis.ref)}
            bits = 8 * (basis.bytes + sum(sizes.values()) + overhead(family))
            found = [bank.reconstruct(ref, basis=basis.ref) for ref in refs.values()]
            yield outcome(family, (TOGETHER, words(target)), bits, found, inputs, [sizes[ref] for ref in refs.values()])
            told(f"{family.name}: collection {number}/{len(targets)}")


def registered(bank: Bank, family: Family, place: Path) -> Mapping[str, str]:
    """The references of the family's adapters, registered from PEFT directories; factors bit for bit as they are."""
    refs: dict[str, str] = {}
    for name, adapter in family.adapters.items():
        folder = place / name
        files = encode(adapter, family.configs[name], dtype=torch.float32)
        write_directory(folder, {CONFIG: family.configs[name] if _plain(family) else files[CONFIG], WEIGHTS: files[WEIGHTS]})
        parent = (family.parents or {}).get(name)
        made = bank.register(
            folder, name=name if family.parents is None else _CHAIN, parent=None if parent is None else refs[parent]
        )
        refs[name] = made.ref
    return refs


def _plain(family: Family) -> bool:
    """Whether the scaling of the factors is 1, as the configuration then says."""
    return all(f.scaling == 1.0 for adapter in family.adapters.values() for f in adapter.modules.values())
