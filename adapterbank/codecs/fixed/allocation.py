"""Which components are kept, and with how many bits on either side: Lagrange's D + λ·R, exact for every component.

With a and b the shares of u and v that a width leaves over, a component costs s²·(1 − (1 − a)(1 − b)). That is not convex near
zero, so every pair of widths and dropping are compared, not steps of one bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterbank.codecs.fixed.planes import GROUP, groups
from adapterbank.codecs.fixed.quantizer import WIDTHS
from adapterbank.codecs.fixed.survey import Survey

ROW_BITS = 48  # of a component's two widths and two scales
_HALVINGS = 60
_LEAST = 1e-18  # of the largest s²: no bit costs anything against it

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """What each choice would do to each component: ``damage`` and ``bits`` ``[1 + widths², n]``; choice 0 is to drop it.

    The n components are those of all modules in order. ``energy`` is Σ s².
    """

    damage: Array
    bits: Array
    energy: float

    def choose(self, multiplier: float) -> Array:
        """The choice ``[n]`` of least damage + multiplier · bits."""
        found: Array = np.argmin(self.damage + multiplier * self.bits, axis=0)
        return found

    @property
    def multipliers(self) -> tuple[float, float]:
        """One so small that every component gets all bits, and one so large that all that may be are dropped."""
        high = float(np.max(self.damage, where=np.isfinite(self.damage), initial=0.0)) or 1.0
        return high * _LEAST, high

    def error(self, choice: Array) -> float:
        """The relative squared error a choice should have, before the closed loop."""
        damage = float(np.take_along_axis(self.damage, choice[None], axis=0).sum())
        return damage / self.energy if self.energy > 0.0 else 0.0


def widths_of(choice: Array) -> Array:
    """The two widths ``[2, n]`` uint8 of each choice; 0 where it is to drop the component."""
    pairs = np.array([(0, 0), *((b, a) for b in WIDTHS for a in WIDTHS)], dtype=np.uint8)
    return np.ascontiguousarray(pairs[choice].T)


def options(surveys: Mapping[str, Survey], components: Mapping[str, Sequence[int]] | None) -> Options:
    """The choices for all components; with ``components``, those named by module are kept and no others."""
    damages, costs = zip(*(_of_module(found) for found in surveys.values()), strict=True) if surveys else ((), ())
    damage = np.concatenate([np.zeros((1 + len(WIDTHS) ** 2, 0)), *damages], axis=1)
    bits = np.concatenate([np.zeros((1 + len(WIDTHS) ** 2, 0)), *costs], axis=1)
    energy = float(damage[0].sum())
    if components is not None:
        kept = _kept(surveys, components)
        damage[0, kept], damage[1:, ~kept] = np.inf, np.inf
    return Options(damage, bits, energy)


def farthest(accepts: Callable[[float], bool], good: float, bad: float) -> float:
    """The multiplier farthest from ``good`` towards ``bad`` that is accepted, halving on a logarithmic scale."""
    if accepts(bad):
        return bad
    for _ in range(_HALVINGS):
        middle = sqrt(good * bad)
        good, bad = (middle, bad) if accepts(middle) else (good, middle)
    return good


def _of_module(found: Survey) -> tuple[Array, Array]:
    energy = found.s.numpy() ** 2
    left_u, left_v = 1.0 - found.losses.numpy()
    left = (left_u[:, None] * left_v[None]).reshape(len(WIDTHS) ** 2, len(energy))
    damage = np.concatenate([energy[None], energy * (1.0 - left)])
    words_u, words_v = groups(found.u.shape[1]), groups(found.v.shape[1])
    width = np.array(WIDTHS)
    paid = ROW_BITS + GROUP * (width[:, None] * words_u + width[None] * words_v).reshape(-1, 1)
    return damage, np.concatenate([np.zeros((1, len(energy))), np.broadcast_to(paid, left.shape)])


def _kept(surveys: Mapping[str, Survey], components: Mapping[str, Sequence[int]]) -> Array:
    masks = [np.isin(np.arange(len(found.s)), list(components.get(name, ()))) for name, found in surveys.items()]
    return np.concatenate([np.zeros(0, dtype=bool), *masks])
