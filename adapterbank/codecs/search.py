"""The step at which a wanted error or size is met: a few drafts, each a step of the secant method in logarithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import copysign, exp, log
from typing import Generic, TypeVar

from adapterbank.errors import ErrorBoundError

_CLOSE = 1e-3  # relative: this near below the target is near enough
_SLOPES = {"max_error": 0.8, "bits": -0.9}  # of log figure over log step, until two drafts tell
_NEAREST, _FURTHEST = 5e-4, log(8.0)  # between the logarithms of one step and the next
_PATIENCE = 5  # tries after which halves are as good a guess as any

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Try(Generic[T]):
    """A step, the figure that it gave (a relative error, or bits per parameter), and what else came of it."""

    step: float
    figure: float
    result: T


def search(attempt: Callable[[float], tuple[float, T]], first: float, wanted: float, kind: str, tries: int) -> list[Try[T]]:
    """Tries whose figures come near ``wanted`` from below, at most ``tries``; ``kind`` is ``max_error`` or ``bits``.

    ``attempt`` takes a step, at first ``first``; the last try is near enough if any was.
    """
    done: list[Try[T]] = []
    step = first
    for _ in range(tries):
        done.append(Try(step, *attempt(step)))
        if wanted * (1 - _CLOSE) <= done[-1].figure <= wanted:
            break
        following = _next(done, wanted, _SLOPES[kind])
        if following is None:
            break
        step = following
    return done


def best(done: Sequence[Try[T]], wanted: float, kind: str) -> Try[T]:
    """The try nearest to ``wanted`` that is not above it. Raises ErrorBoundError if all are."""
    good = [each for each in done if each.figure <= wanted]
    if not good:
        nearest = min(each.figure for each in done)
        raise ErrorBoundError(
            f"{kind} {wanted:.4g} cannot be reached: the nearest of {len(done)} steps gave {nearest:.4g}",
            hint="a larger one; for the exact bytes there is the level exact",
        )
    return max(good, key=lambda each: each.figure)


def _next(done: Sequence[Try[T]], wanted: float, slope: float) -> float | None:
    """Between the finest step that was too coarse and the coarsest that was not, else beyond the one there is; None where there
    is nothing between.

    The figure jumps by some 0.1 % where a component comes or goes, so steps that are nearer than that are not told apart.
    """
    places = [(log(each.step), log(max(each.figure, 1e-12) / wanted)) for each in done]
    finest = copysign(1.0, slope)
    over = min((place for place in places if place[1] > 0), key=lambda place: finest * place[0], default=None)
    under = max((place for place in places if place[1] <= 0), key=lambda place: finest * place[0], default=None)
    if over is not None and under is not None:
        if abs(over[0] - under[0]) < _NEAREST:
            return None
        share = (over[1] + _CLOSE / 2) / (over[1] - under[1])
        share = min(max(share, 0.1), 0.9) if len(done) < _PATIENCE else 0.5
        return exp(over[0] + share * (under[0] - over[0]))
    at, gap = over or under or places[-1]
    move = abs(gap + _CLOSE / 2) / _steepness(places, abs(slope))
    return exp(at - copysign(min(max(move, _NEAREST), _FURTHEST), gap * slope))


def _steepness(places: Sequence[tuple[float, float]], usual: float) -> float:
    """How fast the figure moves with the step, as the last two tries tell; at most as usual, and less than it seems: where few
    components are left it hardly moves until one comes or goes."""
    if len(places) < 2:
        return usual
    (step, figure), (before, figure_before) = places[-1], places[-2]
    return min(max(abs(figure - figure_before) / abs(step - before) / 1.5, usual / 64), usual)
