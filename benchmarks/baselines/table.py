"""All rivals and the settings that are swept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.baselines import vlora as real_vlora
from benchmarks.baselines.collection import Collection, Form
from benchmarks.baselines.compeft import compeft
from benchmarks.baselines.joint import joint_diagonal, joint_full
from benchmarks.baselines.loraquant import loraquant
from benchmarks.baselines.reversible import reversible
from benchmarks.baselines.rounding import integers, nf4
from benchmarks.baselines.rtvq import rtvq
from benchmarks.baselines.truncated import truncated

GAUGES = {"given": "", "svd": " √S"}


@dataclass(frozen=True, slots=True)
class Rival:
    """One method at one setting."""

    method: str
    setting: str
    run: Callable[[Collection], Form]

    @property
    def name(self) -> str:
        return f"{self.method} {self.setting}".strip()


def rivals(adapters: int, rank: int) -> list[Rival]:
    """Every method at every setting that makes sense for so many adapters of this rank."""
    found = [*_alone(rank), *_rounded(), *_mixed(), *_sparse()]
    if adapters > 1:
        found += [*_reversible(min(rank, adapters - 1)), *_joint(adapters * rank), *_residual()]
        if real_vlora.installed():
            found += [Rival("vLoRA", f"k={k}", partial(real_vlora.vlora, components=k)) for k in _counts(adapters - 1)]
    return found


def _alone(rank: int) -> Iterator[Rival]:
    for p in _counts(rank):
        yield Rival("SVD", f"rank {p}", partial(truncated, rank=p))


def _reversible(most: int) -> Iterator[Rival]:
    yield Rival("mean only", "", partial(reversible, components=0, gauge="given"))
    for gauge, mark in GAUGES.items():
        for p in range(1, most + 1):
            yield Rival(f"RMM{mark}", f"p={p}", partial(reversible, components=p, gauge=gauge))


def _rounded() -> Iterator[Rival]:
    for gauge, mark in GAUGES.items():
        for bits in (8, 4, 3, 2):
            for scheme in ("absmax", "search", "minmax"):
                yield Rival(f"int{mark}", f"{bits} bit {scheme}/64", partial(integers, bits=bits, gauge=gauge, scheme=scheme))
            by_row = partial(integers, bits=bits, gauge=gauge, scheme="search", per="component")
            yield Rival(f"int{mark}", f"{bits} bit search/row", by_row)
        yield Rival(f"nf4{mark}", "/64", partial(nf4, gauge=gauge))


def _mixed() -> Iterator[Rival]:
    for bits in (2, 3):
        for share in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
            yield Rival("LoRAQuant", f"{bits} bit ρ={share:g}", partial(loraquant, share=share, bits=bits))


def _sparse() -> Iterator[Rival]:
    for gauge, mark in GAUGES.items():
        for density in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7):
            yield Rival(f"ComPEFT{mark}", f"k={density:g}", partial(compeft, density=density, gauge=gauge))


def _joint(most: int) -> Iterator[Rival]:
    for rank in (2, 4, 8, 16, 24, 32, 48, 64, 96):
        if rank <= most:
            yield Rival("JD-Full", f"R={rank}", partial(joint_full, rank=rank))
        if rank <= min(most, 48):  # beyond, its sweeps take minutes for no other picture
            yield Rival("JD-Diag", f"R={rank}", partial(joint_diagonal, rank=rank))


def _residual() -> Iterator[Rival]:
    for gauge, mark in GAUGES.items():
        for base, offset in ((3, 2), (3, 3), (4, 3), (4, 4), (8, 4), (0, 2), (0, 3), (0, 4)):
            name = f"RTVQ{mark}" if base else f"TVQ{mark}"
            setting = f"{base}+{offset} bit" if base else f"{offset} bit"
            yield Rival(name, setting, partial(rtvq, base_bits=base, offset_bits=offset, gauge=gauge))
            if base:
                grouped = partial(rtvq, base_bits=base, offset_bits=offset, gauge=gauge, per="group")
                yield Rival(name, f"{setting}/64", grouped)


def _counts(most: int) -> list[int]:
    """1, 2, 3, 4, then coarser, up to ``most``."""
    return [k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if k <= most]
