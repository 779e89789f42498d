"""Probabilities and reconstruction points of every class: integers made once from simulated Gaussian samples (``tabulate.py``).

Class c stands for σ/Δ = 2^(c/6). Below the lowest class the lowest is used; above the highest, h bits between the parity and
the rest of each magnitude are stored as they are, and class c − 6h codes what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.classes import CLASSES
from adapterbank.codecs.rans import Tables

LOWEST, HIGHEST = -6, 24  # σ/Δ from 1/2 to 16
SILENT = LOWEST - 1  # a vector of this class or below has no samples
REGULAR = 44  # symbols that name a magnitude; the two after them name an even and an odd escape
SYMBOLS = REGULAR + 2
FINE = 64  # reconstruction points are multiples of Δ/64

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """``coder`` has two rows per class, one per quantizer; ``shifts [2·classes, SYMBOLS]`` int64 moves the points in
    steps of Δ/64 where no bits are hidden; ``regular [classes]`` is the number of magnitudes that have a symbol of their
    own."""

    coder: Tables
    shifts: Ints
    regular: Ints


@cache
def book() -> Book:
    """The tables that every coded adapter of format 1 uses."""
    stored = json.loads(resources.files(__package__).joinpath("tables.json").read_text())
    return made(stored["frequencies"], stored["shifts"])


def made(frequencies: Sequence[Sequence[int]], shifts: Sequence[Sequence[int]]) -> Book:
    """The book of these rows, two per class: frequencies of the class's regular symbols and of the two escapes, and shifts
    of its first symbols (the last one given holds for those after it)."""
    table = np.zeros((len(frequencies), SYMBOLS), np.int64)
    moved = np.zeros_like(table)
    for row, (counts, own) in enumerate(zip(frequencies, shifts, strict=True)):
        table[row, : len(counts) - 2], table[row, REGULAR:] = counts[:-2], counts[-2:]
        moved[row, : len(own)], moved[row, len(own) : REGULAR] = own, own[-1]
    return Book(Tables.of(table), moved, np.array([len(counts) - 2 for counts in frequencies[::2]]))


def split_class(c: Ints) -> tuple[Ints, Ints]:
    """The row of the tables (0 for the lowest class) and the number h of hidden bits for classes ``c``."""
    hidden = np.maximum(-((HIGHEST - c) // CLASSES), 0)
    return np.clip(c - CLASSES * hidden, LOWEST, HIGHEST) - LOWEST, hidden
