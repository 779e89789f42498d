"""Greedy soup (arXiv 2203.05482, recipe 1): adapters in order of a metric, each kept if the soup does not get worse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from adapterbank.errors import UsageError

Evaluate = Callable[[tuple[str, ...]], float]
"""The held-out score of the uniform average of the adapters of these names; larger is better."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One step: the adapter tried, the score of the soup with it, and whether it stayed."""

    name: str
    score: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Soup:
    """``kept`` in the order in which they were added; ``score`` is that of their average, ``trace`` every step."""

    kept: tuple[str, ...]
    score: float
    trace: tuple[Tried, ...]

    def weights(self, names: tuple[str, ...]) -> tuple[float, ...]:
        """1 for what was kept and 0 for the others: the weights with which ``greedy_soup`` is the soup."""
        return tuple(float(name in self.kept) for name in names)


def greedy(metrics: Mapping[str, float], evaluate: Evaluate, *, larger_is_better: bool = True) -> Soup:
    """Begin with the adapter of the best metric; add the others in order, each if ``evaluate`` is not lower with it.

    ``metrics`` decide the order alone (equal ones by name), and ``larger_is_better`` is about them; all comparisons are between
    values of ``evaluate``, which is asked once per adapter. So the soup is never worse than its first adapter.

    Raises UsageError for no adapters or a value that is not finite.
    """
    if not metrics:
        raise UsageError("no adapters for a greedy soup: expected at least one with the metric")
    sign = 1.0 if larger_is_better else -1.0
    kept: tuple[str, ...] = ()
    best, trace = -float("inf"), []
    for name in sorted(metrics, key=lambda name: (-sign * metrics[name], name)):
        value = evaluate((*kept, name))
        if not isfinite(value):
            raise UsageError(f"the evaluation of {', '.join((*kept, name))} gave {value}, expected a finite number")
        stays = value >= best
        if stays:
            kept, best = (*kept, name), value
        trace.append(Tried(name, value, stays))
    return Soup(kept, best, tuple(trace))
