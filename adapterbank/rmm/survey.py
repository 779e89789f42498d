"""The table of options: what every number of components would cost on disk, and how far off each member would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.linalg.workers import share_out
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import relative
from adapterbank.lora.gauge import Frame
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.rmm.basis import Principal, most_components, principal, project
from adapterbank.rmm.objects import basis_plan, class_components, member_plan
from adapterbank.rmm.places import Place, Progress, places, told

_GRAM_BYTES = (
    64 << 20
)  # of the Gram matrices a thread holds at a time; where more are needed a place is solved again for the next


@dataclass(frozen=True, slots=True)
class Option:
    """``p`` components: bytes of basis and members on disk, relative ΔW error per member, explained share of the energy."""

    p: int
    bytes: int
    errors: tuple[float, ...]
    energy: float

    @property
    def mean(self) -> float:
        return sum(self.errors) / len(self.errors)

    @property
    def worst(self) -> float:
        return max(self.errors)


@dataclass(frozen=True, slots=True)
class Survey:
    """All options of a collection, from p = 0 to the number with which the fit is exact."""

    options: tuple[Option, ...]


def survey(
    adapters: Sequence[Adapter], layout: Layout, *, gauge: str, dtype: str = "float32", progress: Progress | None = None
) -> Survey:
    """Fit once with the most components and measure every prefix of them, values rounded to the store ``dtype``.

    The components for a smaller p are a prefix of those for a larger one, so that one pass over the adapters serves all. Errors
    are computed from the residuals X − X̂, through r×r Gram matrices summed over row blocks: bounded memory, and no difference
    of squared norms. ``progress`` is told (rows done, rows in all).
    """
    shapes = [adapter.shapes for adapter in adapters]
    most = max_components(layout, shapes)
    sums = _Sums.empty(len(adapters), most)
    tell = told(progress, sum(shape.rows for shape in layout))

    def add(part: tuple[int, _Sums]) -> None:
        sums.add(part[1])
        tell(part[0])

    def task(place: Place) -> tuple[int, _Sums]:
        return place.shape.rows, _measure(place, gauge, getattr(torch, dtype), _Sums.empty(len(adapters), most))

    share_out(task, places(adapters, layout), add)
    return Survey(tuple(sums.option(p, stored_bytes(adapters, layout, p, gauge=gauge, dtype=dtype)) for p in range(most + 1)))


def max_components(layout: Layout, shapes: Sequence[Sequence[ModuleShape]]) -> int:
    """The smallest p with which every member is exact: the largest min(r_c, n_c − 1) of a rank class."""
    ranks = [block.rank for block in layout.classes]
    return max(class_components(layout, shapes, max(ranks, default=0)).values(), default=0)


def stored_bytes(adapters: Sequence[Adapter], layout: Layout, p: int, *, gauge: str, dtype: str) -> int:
    """Bytes of the basis object and all member objects with p components, headers and the adapters' extras included."""
    components = class_components(layout, [adapter.shapes for adapter in adapters], p)
    members = (
        member_plan(layout, Layout.of(each.shapes), components, p=p, dtype=dtype, extras=each.extras) for each in adapters
    )
    return basis_plan(layout, components, p=p, gauge=gauge, dtype=dtype).size + sum(member.size for member in members)


@dataclass(slots=True)
class _Sums:
    """Sums over the places so far: ‖ΔW‖² ``[n]``, ‖ΔW − ΔŴ‖² ``[P + 1, n]``, energy within p ``[P + 1]`` and in all."""

    norms: Tensor
    errors: Tensor
    within: Tensor
    energy: float

    @classmethod
    def empty(cls, n: int, most: int) -> _Sums:
        norms, within = torch.zeros(n, dtype=torch.float64), torch.zeros(most + 1, dtype=torch.float64)
        return cls(norms, norms.new_zeros(most + 1, n), within, 0.0)

    def option(self, p: int, size: int) -> Option:
        errors = tuple(relative(float(e), float(n)) for e, n in zip(self.errors[p], self.norms, strict=True))
        return Option(p, size, errors, float(self.within[p]) / self.energy if self.energy > 0.0 else 1.0)

    def add(self, other: _Sums) -> None:
        self.norms += other.norms
        self.errors += other.errors
        self.within += other.within
        self.energy += other.energy

    def add_energy(self, found: Principal) -> None:
        reached = found.energies.cumsum(0)
        self.within[1 : len(reached) + 1] += reached
        self.within[len(reached) + 1 :] += found.energies.sum()
        self.energy += found.energy


class _Grams:
    """r×r sums over one place for each prefix and holder.

    With B, A the rows, B̂, Â the estimates, F = B − B̂ and H = A − Â: BAᵀ − B̂Âᵀ = FAᵀ + B̂Hᵀ, so that
    ‖ΔW − ΔŴ‖² = ⟨FᵀF, AᵀA⟩ + 2⟨FᵀB̂, AᵀH⟩ + ⟨B̂ᵀB̂, HᵀH⟩.
    """

    def __init__(self, prefixes: range, holders: int, rank: int) -> None:
        def zeros(*lead: int) -> Tensor:
            return torch.zeros(*lead, holders, rank, rank, dtype=torch.float64)

        self.prefixes = prefixes
        self.BB, self.AA = zeros(), zeros()
        self.FF, self.FB, self.EE, self.AH, self.HH = (zeros(len(prefixes)) for _ in range(5))

    def add(self, upper: bool, rows: Tensor, estimates: Iterator[Tensor]) -> None:
        """Add one row block ``[h, b, r]`` of B (``upper``) or of A, with its estimates for p = 0, 1, …"""
        (self.BB if upper else self.AA).add_(rows.mT @ rows)
        for p, estimate in enumerate(estimates):
            if p not in self.prefixes:
                continue
            at, residual = p - self.prefixes.start, rows - estimate
            if upper:
                self.FF[at] += residual.mT @ residual
                self.FB[at] += residual.mT @ estimate
                self.EE[at] += estimate.mT @ estimate
            else:
                self.AH[at] += rows.mT @ residual
                self.HH[at] += residual.mT @ residual

    def errors(self) -> Tensor:
        """‖ΔW − ΔŴ‖² ``[prefixes, holders]``."""
        return (self.FF * self.AA + 2 * self.FB * self.AH + self.EE * self.HH).sum(dim=(-2, -1)).clamp_min(0.0)

    def norms(self) -> Tensor:
        """‖ΔW‖² ``[holders]``."""
        return (self.BB * self.AA).sum(dim=(-2, -1))


def _measure(place: Place, gauge: str, dtype: torch.dtype, sums: _Sums) -> _Sums:
    """The sums of one place, into empty ``sums``."""
    held, rank, n = place.frames(gauge), place.shape.rank, len(place.holders)
    top, holders = most_components(n, rank), list(place.holders)
    step = max(1, _GRAM_BYTES // (5 * 8 * n * rank * rank))
    for first in range(0, top + 1, step):
        grams = _Grams(range(first, min(first + step, top + 1)), n, rank)
        _sweep(place, held, dtype, grams, sums if first == 0 else None)
        errors = grams.errors()
        sums.errors[first : first + len(errors), holders] += errors
        if grams.prefixes.stop == top + 1:
            sums.errors[top + 1 :, holders] += errors[-1]
            sums.norms[holders] += grams.norms()
    return sums


def _sweep(place: Place, held: list[Frame], dtype: torch.dtype, grams: _Grams, sums: _Sums | None) -> None:
    """One pass over the place: solve each row block, add its Gram matrices, and its energies where ``sums`` is given."""
    top = most_components(len(place.holders), place.shape.rank)
    for rows, stack in place.blocks(held):
        found = principal(stack, top)
        if sums is not None:
            sums.add_energy(found)
        grams.add(rows.start < place.shape.d_out, stack, _estimates(stack, found, dtype))


def _estimates(stack: Tensor, found: Principal, dtype: torch.dtype) -> Iterator[Tensor]:
    """x̂ ``[n, b, r]`` for p = 0, 1, … from values rounded to ``dtype``."""
    mean, components = (part.to(dtype).double() for part in (found.mean, found.components))
    coefficients = project(stack, mean, components).to(dtype).double()
    estimate = mean.expand_as(stack)
    yield estimate
    for k, component in enumerate(components):
        estimate = estimate + coefficients[..., k : k + 1] * component
        yield estimate
