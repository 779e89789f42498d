"""Rate-distortion optimised trellis-coded quantization of many vectors at once (Fischer & Wang 1992; VVC's dependent
quantization).

Every sample of every lane weighs, for each branch of the trellis, the nearest magnitudes of that branch (and zero where the
branch has it) by weight·(t − point)² + λ·bits; the Viterbi algorithm then takes the cheapest path. All of it is tensor
operations in lockstep over lanes, in float32: the choice of an encoder may differ between machines, what its bytes mean does
not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterbank.codecs.lanes import Lanes
from adapterbank.codecs.rans import PRECISION
from adapterbank.codecs.tables import FINE, REGULAR, SYMBOLS, Book, book, split_class
from adapterbank.codecs.trellis import Trellis, best_path

SLOPE = 0.358  # λ/Δ²: 2·ln 2 times the distortion (2Δ)²/12 of a quantizer less the 1.1 dB that eight states gain
_ESCAPE = 8.0  # bits of a magnitude beyond the class's symbols, roughly
_BLOCK = 1024  # lanes at a time: half a million samples, some 60 MB

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """The tables as float32, flat over (row, symbol): ``bits`` with the sign's bit, and ``shifts`` of the points in Δ."""

    bits: Tensor
    shifts: Tensor

    @classmethod
    def of(cls, tables: Book) -> Prices:
        """Prices of a book; a symbol that never occurs costs infinitely many bits."""
        bits = PRECISION - torch.log2(torch.from_numpy(tables.coder.frequencies).float())
        bits[:, 1:] += 1.0
        bits[:, REGULAR:] += _ESCAPE
        shifts = torch.from_numpy(tables.shifts).float() / FINE
        return cls(bits.flatten(), shifts.flatten())


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What the samples of each lane of a block share ``[lanes]``: first entry of its row in the prices, hidden bits, regular
    symbols of its class, weight."""

    entry: Tensor
    hidden: Tensor
    regular: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Per sample, in the order of the concatenated vectors: signed integers ``k`` int32, which quantizer ``q`` uint8 it is
    of, the value ``points`` float32 in Δ that the decoder will have, and ``bits`` float32 that it costs (modelled)."""

    k: Tensor
    q: Tensor
    points: Tensor
    bits: Tensor


def quantize(
    targets: Tensor, sizes: Ints, classes: Ints, weights: Tensor, code: Trellis, tables: Book | None = None
) -> Quantized:
    """Quantize the concatenated vectors ``targets [N]`` float32 in units of Δ.

    Vector i has ``sizes[i]`` samples, class ``classes[i]`` and weight ``weights[i]`` on its squared errors.
    """
    lanes, tables = Lanes.of(sizes), tables or book()
    prices, (rows, hidden) = Prices.of(tables), split_class(classes)
    entry, regular = torch.from_numpy(2 * rows * SYMBOLS), torch.from_numpy(tables.regular[rows])
    terms = Terms(entry, torch.from_numpy(hidden), regular, weights)
    n = targets.numel()
    result = Quantized(torch.zeros(n, dtype=torch.int32), torch.zeros(n, dtype=torch.uint8), torch.zeros(n), torch.zeros(n))

    for first in range(0, lanes.count, _BLOCK):
        stop = min(first + _BLOCK, lanes.count)
        vector = torch.from_numpy(lanes.vector[first:stop])
        own = Terms(terms.entry[vector], terms.hidden[vector], terms.regular[vector], terms.weight[vector])
        _quantize_block(targets, lanes, slice(first, stop), own, prices, code, result)
    return result


def _quantize_block(
    targets: Tensor, lanes: Lanes, block: slice, terms: Terms, prices: Prices, code: Trellis, result: Quantized
) -> None:
    places, there = (torch.from_numpy(array) for array in lanes.places(block.start, block.stop))
    t = targets[places]
    size = t.abs()
    costs = torch.empty(t.shape[0], 4, t.shape[1])
    chosen = torch.empty(t.shape[0], 4, t.shape[1], dtype=torch.int32)
    for quantizer in (0, 1):
        for parity in (0, 1):
            branch = 2 * quantizer + parity
            costs[:, branch], chosen[:, branch] = _cheapest(size, quantizer, parity, terms, prices)
    path = best_path(costs, torch.from_numpy(lanes.length[block]), code)
    m = chosen.gather(1, path.unsqueeze(1)).squeeze(1)
    q = path >> 1
    entry, point = _entry_and_point(m, q, terms, prices)
    bits = prices.bits[entry] + torch.where(m > 0, terms.hidden, 0)
    negative = t < 0
    where = places[there]
    result.k[where] = torch.where(negative, -m, m)[there]
    result.q[where] = q[there].to(torch.uint8)
    result.points[where] = torch.where(negative, -point, point)[there]
    result.bits[where] = bits[there]


def _cheapest(size: Tensor, quantizer: int, parity: int, terms: Terms, prices: Prices) -> tuple[Tensor, Tensor]:
    """Cost and magnitude of the best point of one branch for every sample ``[T, lanes]``."""
    lower = (((size + quantizer - 2 * parity) * 0.25).floor().clamp_(min=0) * 2 + parity).to(torch.int32)
    best, cost = lower, _cost(size, lower, quantizer, terms, prices)
    candidates = [lower + 2] if parity else [lower + 2, torch.zeros_like(lower[:1])]
    for other in candidates:
        price = _cost(size, other, quantizer, terms, prices)
        better = price < cost
        best, cost = torch.where(better, other, best), torch.where(better, price, cost)
    return cost, best


def _cost(size: Tensor, m: Tensor, quantizer: int, terms: Terms, prices: Prices) -> Tensor:
    entry, point = _entry_and_point(m, quantizer, terms, prices)
    return (size - point).square_().mul_(terms.weight).add_(prices.bits[entry], alpha=SLOPE)


def _entry_and_point(m: Tensor, quantizer: Tensor | int, terms: Terms, prices: Prices) -> tuple[Tensor, Tensor]:
    """Where the prices of magnitudes ``m [T, lanes]`` are, and their reconstruction points in Δ."""
    parity = m & 1
    folded = ((m >> (terms.hidden + 1)) << 1) | parity
    symbol = torch.where(folded < terms.regular, folded, REGULAR + parity)
    entry = terms.entry + quantizer * SYMBOLS + symbol
    point = (2 * m - quantizer).clamp(min=0) + torch.where(terms.hidden == 0, prices.shifts[entry], 0.0)
    return entry, point
