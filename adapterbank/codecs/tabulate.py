"""Makes ``tables.json``: what the quantizer does to Gaussian samples of every class (``python -m adapterbank.codecs.tabulate
> FILE``).

The classes are simulated, never learned from adapters. Each class is quantized with the rates that it had in the round
before, so that rates and choices agree; its σ varies by 8 %, as a vector's does within its class and beside a perfect Gaussian.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from adapterbank.codecs.classes import CLASSES
from adapterbank.codecs.lanes import LONGEST
from adapterbank.codecs.quantize import Quantized, quantize
from adapterbank.codecs.rans import PRECISION
from adapterbank.codecs.tables import FINE, HIGHEST, LOWEST, REGULAR, Book, made
from adapterbank.codecs.trellis import trellis

_VECTORS, _ROUNDS, _SPREAD = 512, 8, 0.08
_SHIFTS = 3  # magnitudes 1, 2 and 3 have shifts of their own

Ints = NDArray[np.int64]


def main() -> None:
    """Write the tables to standard output."""
    rows = [_class_rows(c) for c in range(LOWEST, HIGHEST + 1)]
    frequencies = [row for pair, _ in rows for row in pair]
    shifts = [row for _, pair in rows for row in pair]
    json.dump({"frequencies": frequencies, "shifts": shifts}, sys.stdout, separators=(",", ":"))


def _class_rows(c: int) -> tuple[list[list[int]], list[list[int]]]:
    """Frequencies and shifts of both quantizers of class ``c``."""
    generator = torch.Generator().manual_seed(c - LOWEST)
    sigma = 2.0 ** (c / CLASSES)
    spread = torch.exp(_SPREAD * torch.randn(_VECTORS, 1, generator=generator) - _SPREAD**2 / 2)
    samples = (sigma * spread * torch.randn(_VECTORS, LONGEST, generator=generator)).flatten()
    regular = min(REGULAR, max(6, 2 * ceil(5.5 * sigma / 4)))
    frequencies, shifts = _gaussian(sigma, regular), [[0], [0]]
    for _ in range(_ROUNDS):
        found = _simulate(samples, made(frequencies * (HIGHEST - LOWEST + 1), shifts * (HIGHEST - LOWEST + 1)))
        frequencies = [_frequencies(found, q, regular) for q in (0, 1)]
        shifts = [_shifts(found, samples, q) for q in (0, 1)]
    return frequencies, shifts


def _simulate(samples: torch.Tensor, book: Book) -> Quantized:
    sizes = np.full(_VECTORS, LONGEST)
    return quantize(samples, sizes, np.zeros(_VECTORS, np.int64), torch.ones(_VECTORS), trellis(8), book)


def _gaussian(sigma: float, regular: int) -> list[list[int]]:
    """Where the rounds begin: every magnitude's share of a Gaussian under plain rounding."""
    rows = []
    for q in (0, 1):
        points = [max(2 * m - q, 0) for m in range(regular + 2)]
        edges = [0.0] + [(a + b) / 2 for a, b in pairwise(points)]
        inside = [float(torch.erf(torch.tensor(edge / (sigma * sqrt(2.0)), dtype=torch.float64))) for edge in edges]
        shares = [b - a for a, b in zip(inside, [*inside[1:], 1.0], strict=True)]
        rows.append(_rounded(np.array(shares)))
    return rows


def _frequencies(found: Quantized, q: int, regular: int) -> list[int]:
    magnitudes = found.k[found.q == q].abs().long().numpy()
    folded = np.where(magnitudes < regular, magnitudes, regular + (magnitudes & 1))
    return _rounded(np.bincount(folded, minlength=regular + 2) + 0.05)


def _rounded(weights: NDArray[np.floating]) -> list[int]:
    """Integers of at least 1 that sum to 2¹⁴, near proportion to ``weights``: what is missing goes to the largest."""
    total = 1 << PRECISION
    counts = np.maximum(1, np.rint(weights / weights.sum() * total)).astype(np.int64)
    counts[np.argmax(counts)] += total - counts.sum()
    return [int(count) for count in counts]


def _shifts(found: Quantized, samples: torch.Tensor, q: int) -> list[int]:
    """How far the mean of the samples of magnitude 0, 1, 2, and 3 and more lies beside the nominal point, in Δ/64."""
    row, magnitudes, sizes = [0], found.k.abs(), samples.sign() * samples
    for m in range(1, _SHIFTS + 1):
        chosen = (found.q == q) & ((magnitudes == m) if m < _SHIFTS else (magnitudes >= m))
        nominal = (2 * magnitudes[chosen] - q).float()
        row.append(round(FINE * float((sizes[chosen] - nominal).mean())) if int(chosen.sum()) >= 32 else row[-1])
    return row


if __name__ == "__main__":
    main()
