"""Scales as integers: the gain of a component, the class of a vector, and the decoder's factors. No float decides anything
here.

A component is coded as two vectors x = ŝ·u and y = ŝ·v of entries near N(0, ŝ²/d), in units of the step Δ. Its gain index g
says ŝ = Δ·2^(g/24); the class c = round(6·log₂(ŝ/(Δ·√d))) of each side picks its probabilities (given the singular
value the entries of a singular vector are Gaussian, so one number per component replaces adaptive statistics).
"""

from __future__ import annotations

from functools import cache

GAINS, CLASSES = 24, 6  # per octave
_ROOTS = 2 * GAINS
_BITS = 23


@cache
def half_log(d: int) -> int:
    """round(12·log₂ d): what √d takes off a gain index, in exact integers."""
    return int(d**24).bit_length() // 2


def class_of(gain: int, d: int) -> int:
    """The class of a vector of ``d`` entries whose component has gain index ``gain``; any integer."""
    return (gain - half_log(d) + 2) // 4


@cache
def _mantissa(j: int) -> int:
    """⌊2^(23 + j/48)⌋ by bisection on integers."""
    power, low, high = 1 << (_ROOTS * _BITS + j), 1 << _BITS, 1 << (_BITS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**_ROOTS <= power else (low, middle)
    return low


def root(gain: int) -> float:
    """(Δ/ŝ)^½ = 2^(−g/48) to 24 bits, the same float on every machine."""
    octave, j = divmod(-gain, _ROOTS)
    return float(_mantissa(j)) * 2.0 ** (octave - _BITS)


def inverse(gain: int, shift: int) -> int:
    """2^shift·2^(−g/24) as an integer, to 23 bits and rounded down: the same on every machine. 0 where nothing is left of
    it.
    """
    octave, j = divmod(-2 * gain, _ROOTS)
    exponent = shift + octave - _BITS
    return _mantissa(j) << exponent if exponent >= 0 else _mantissa(j) >> -exponent
