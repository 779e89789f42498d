"""Magnitudes as symbols, hidden bits and escapes.

A magnitude m of a class with h hidden bits is the symbol 2·(m >> (h + 1)) + (m & 1): the parity drives the trellis and stays in
the entropy-coded symbol; the h bits between are stored as they are. Beyond the class's last symbol an escape names the parity,
and the rest follows as a number of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.tables import REGULAR

Ints = NDArray[np.int64]


def to_symbols(magnitudes: Ints, hidden: Ints, regular: Ints) -> Ints:
    """The symbols of ``magnitudes``; ``hidden`` and ``regular`` (symbols of the class, even) broadcast against them."""
    folded = fold(magnitudes, hidden)
    return np.where(folded < regular, folded, REGULAR + (magnitudes & 1))


def fold(magnitudes: Ints, hidden: Ints) -> Ints:
    """2·(m >> (h + 1)) + (m & 1)."""
    return ((magnitudes >> (hidden + 1)) << 1) | (magnitudes & 1)


def unfold(folded: Ints, middle: Ints, hidden: Ints) -> Ints:
    """The magnitude of a folded one and its hidden bits ``middle``."""
    return ((((folded >> 1) << hidden) | middle) << 1) | (folded & 1)


def middle_bits(magnitudes: Ints, hidden: Ints) -> Ints:
    """The h bits between the parity and the rest."""
    return (magnitudes >> 1) & ((1 << hidden) - 1)
