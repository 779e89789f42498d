"""PCB-Merging (arXiv 2410.02396): entries compete, by their own size and by what the other adapters say in the same place.

Follows the authors' code, where it and the paper differ (exp and tanh for the two activations). Not taken over is the search
of the weights by validation accuracy: weights are given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.linalg.vectorized import exp_, tanh_
from adapterbank.linalg.workers import share_out
from adapterbank.merge.elementwise import row_tiles, runs, weighted_tile
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.methods.ties import Scope
from adapterbank.merge.options import Hint, Space
from adapterbank.merge.selection import Selection, counted, no_counts
from adapterbank.merge.spaces import elementwise, space_of
from adapterbank.merge.stack import Stack

Stacks = Callable[[], Iterable[Stack]]
Tiles = Callable[[Stack, slice], Tensor]
Key = tuple[int, tuple[int, int]]  # an adapter's place, and what a selection has settled
Ratio = Annotated[float, Hint("fraction of the entries of each ΔW that wins; vision tasks: 0.05", above=0.0, at_most=1.0)]
Clamp = Annotated[
    float, Hint("quantile at both ends of |ΔW| to which sizes are clamped; vision tasks: 0.01", above=0.0, at_most=0.5)
]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one adapter: the quantiles between which sizes are clamped, and the score of the worst winner and of the best."""

    low: float
    high: float
    floor: float = 0.0
    top: float = 0.0


def pcb(
    inputs: Inputs, *, pcb_ratio: Ratio = 0.1, clamp: Clamp = 1e-4, scope: Scope = "module", space: Space = "full"
) -> Pieces:
    """``M = Σ β_i·w_i·τ_i / Σ β_i``, τ_i = ΔW_i with its sizes clamped, β_i in [0, 1] the part of the score above the floor.

    Score: ``exp(n·u²)·tanh(ΔW_i · Σ_j ΔW_j)``, u the clamped size between 0 (smallest) and 1 (largest), n adapters. The floor
    is such that ``pcb_ratio`` of the adapter's scores are above; entries below it have β = 0. If it is the best score, the
    entries that reach it win, as long as it is positive. Weights scale what an entry brings and not how it competes.
    """

    def parts() -> Iterator[Stack]:
        return (part for stack in inputs for part in space_of(stack, space).parts)

    whole = _limits(parts, pcb_ratio, clamp) if scope == "model" else None

    def rule(part: Stack) -> Tensor:
        return _merged(part, whole or _limits(lambda: [part], pcb_ratio, clamp))

    for stack in inputs:
        yield Piece(stack.module, elementwise(stack, space, rule), near=stack.combine())


def _merged(part: Stack, limits: Mapping[int, Limits]) -> Tensor:
    merged = part.lefts[0].new_empty(part.d_out, part.d_in)

    def fill(rows: slice) -> None:
        tiles = _entries(part, rows)
        shares = _scores(part, limits, tiles)
        for share, member in zip(shares, part.members, strict=True):
            _above_floor(share, limits[member])
        total = shares.sum(dim=0).clamp_(min=1e-12)
        for tile, weight, member in zip(tiles, part.weights, part.members, strict=True):
            torch.mul(tile.sign(), tile.abs().clamp_(limits[member].low, limits[member].high), out=tile).mul_(weight)
        merged[rows] = tiles.mul_(shares).sum(dim=0).div_(total)

    share_out(fill, row_tiles(part))
    return merged


def _limits(parts: Stacks, ratio: float, clamp: float) -> Mapping[int, Limits]:
    """Of every adapter, by its place in the merge, over all that ``parts`` goes through; the indices are the authors'."""
    entries = sum(part.d_out * part.d_in for part in parts())
    low = entries - int(entries * clamp)
    high = entries - max(int(entries * (1.0 - clamp) - 1), 0)
    sizes = _largest(parts, lambda part, rows: _entries(part, rows).abs_(), (low, high))
    clamps = {member: Limits(*values) for member, values in sizes.items()}

    def scores(part: Stack, rows: slice, sign: float = 1.0) -> Tensor:
        return _scores(part, clamps, _entries(part, rows)).mul_(sign).clamp_(min=0.0)

    ranks = (entries - min(int(entries * (1.0 - ratio)), entries - 1), 1)
    positive = _largest(parts, scores, ranks)
    if all(value > 0.0 for values in positive.values() for value in values):
        found = positive
    else:  # some scores among them are not positive: the k-th largest is the (N + 1 − k)-th most negative
        negative = _largest(parts, lambda part, rows: scores(part, rows, -1.0), tuple(entries + 1 - rank for rank in ranks))
        found = {m: tuple(up or -down for up, down in zip(positive[m], negative[m], strict=True)) for m in positive}
    return {member: Limits(own.low, own.high, *found[member]) for member, own in clamps.items()}


def _entries(part: Stack, rows: slice) -> Tensor:
    """The rows of every delta ``[n, rows, d_in]``."""
    return weighted_tile(part, lambda _index, _rows, tile: tile, [1.0] * len(part), rows)


def _scores(part: Stack, limits: Mapping[int, Limits], tiles: Tensor) -> Tensor:
    """Scores ``[n, rows, d_in]``, all times exp(−n): no shares change, and nothing overflows."""
    total = tiles.sum(dim=0)
    scores = tiles.abs()
    for size, tile, member in zip(scores, tiles, part.members, strict=True):
        low, high = limits[member].low, limits[member].high
        size.clamp_(low, high).sub_(low).div_(high - low if high > low else 1.0)
        exp_(size.square_().sub_(1.0).mul_(len(tiles))).mul_(tanh_(tile * total))
    return scores


def _above_floor(scores: Tensor, limits: Limits) -> None:
    """Turn the scores of one adapter into its shares β."""
    if limits.top > limits.floor:
        scores.clamp_(min=limits.floor).sub_(limits.floor).div_(limits.top - limits.floor)
    else:
        scores.copy_((scores >= limits.top) & (scores > 0.0))


def _largest(parts: Stacks, tiles: Tiles, ranks: Sequence[int]) -> dict[int, tuple[float, ...]]:
    """For each adapter the k-th largest of its non-negative entries, for each k of ``ranks``; all found in the same passes."""
    known = [(part.lefts[0].dtype, part.members) for part in parts()]
    dtype = torch.float64 if any(own == torch.float64 for own, _ in known) else torch.float32
    selections = {member: [Selection(rank, dtype) for rank in ranks] for _, members in known for member in members}
    while not all(selection.done for own in selections.values() for selection in own):
        sums: dict[Key, Tensor] = defaultdict(no_counts)
        for part in parts():
            _count(part, tiles, selections, sums)
        for member, own in selections.items():
            for selection in own:
                selection.settle(sums[member, selection.settled])
    return {member: tuple(selection.value for selection in own) for member, own in selections.items()}


def _count(part: Stack, tiles: Tiles, selections: Mapping[int, Sequence[Selection]], sums: dict[Key, Tensor]) -> None:
    """Add the counts of one stack to ``sums``, a run of tiles on each thread; once for selections that have settled alike."""

    def count(run: Sequence[slice]) -> Mapping[Key, Tensor]:
        found: dict[Key, list[Tensor]] = defaultdict(list)
        for rows in run:
            for member, tile in zip(part.members, tiles(part, rows), strict=True):
                for settled, selection in {each.settled: each for each in selections[member]}.items():
                    found[member, settled].append(selection.digits(tile))
        return {key: counted(digits) for key, digits in found.items()}

    def add(counts: Mapping[Key, Tensor]) -> None:
        for key, found in counts.items():
            sums[key] += found

    share_out(count, runs(part), add)


METHOD = Method(
    name="pcb",
    merge=pcb,
    kind="elementwise",
    summary="entries compete by size and agreement; the best are averaged",
    formula="M = Σ β·w·τ / Σ β, β from exp(n·u²)·tanh(ΔW_i·Σ ΔW)",
    source="arXiv 2410.02396",
    laws={"order": {}, "gauge": {}},
)
