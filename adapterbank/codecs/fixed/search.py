"""The coarsest choice whose codes still reach a wanted error, when only the error expected of a choice is cheap to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_TUNINGS = 8  # tries, once one of them is good
_CLOSE = 0.997  # of the error wanted: no closer is looked for
_STEP = 1.0 - 1e-4  # at least so much lower after a try that missed
_STRIDE = 0.97  # and so much, once there were many

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Try(Generic[T]):
    """A choice: its expected and its reached squared error, whether there is no finer one, and what came of it."""

    expected: float
    reached: float
    finest: bool
    result: T


def coarsest(attempt: Callable[[float], Try[T]], wanted: float) -> Try[T]:
    """The try of largest expected error that reaches ``wanted``, or the finest one where none does.

    ``attempt(aim)`` tries the coarsest choice that is expected to reach ``aim``. What it reaches differs from that by a
    factor that changes slowly; the aim is corrected by it.
    """
    good: Try[T] | None = None
    missed, aim, tries = float("inf"), wanted, 0
    while True:
        now, tries = attempt(aim), tries + 1
        if now.reached <= wanted:
            if good is not None and now.expected <= good.expected:
                return good
            good = now
            if now.reached >= _CLOSE * wanted or now.reached == 0.0:
                return now
        elif now.finest:
            return now
        else:
            missed = min(missed, now.expected)
        if good is not None and tries >= _TUNINGS:
            return good
        aim = _corrected(now, wanted, good.expected if good is not None else 0.0, missed, tries)


def _corrected(now: Try[T], wanted: float, good: float, missed: float, tries: int) -> float:
    """The next aim: below all that missed, above the best that did not."""
    aim = min(now.expected * wanted / now.reached, missed * (_STEP if tries < _TUNINGS else _STRIDE))
    return aim if aim > good else (good * missed) ** 0.5
