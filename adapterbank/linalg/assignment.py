"""The assignment problem: which row takes which column."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from torch import Tensor


def assign(gain: Tensor) -> list[int]:
    """The column of each row of ``gain [n, n]`` in an assignment of largest total gain.

    Exact, O(n³): one shortest augmenting path after the other (Jonker and Volgenant 1987). Plain lists, because at the ranks
    of adapters (n ≤ 64, 80 ms) a call into a library costs more than the step that it does. Of equal assignments it is always
    the same one.
    """
    cost = [[-value for value in row] for row in gain.tolist()]
    n = len(cost)
    taken, row_price, column_price = [-1] * n, [0.0] * n, [0.0] * n
    for row in range(n):
        _augment(row, cost, taken, row_price, column_price)
    chosen = [0] * n
    for column, row in enumerate(taken):
        chosen[row] = column
    return chosen


def _augment(
    start: int, cost: Sequence[Sequence[float]], taken: list[int], row_price: list[float], column_price: list[float]
) -> None:
    """Give row ``start`` a column along the cheapest path; ``taken`` is the row of each column, −1 for none."""
    n = len(cost)
    reach, came, seen = [inf] * n, [-1] * n, [False] * n
    row, column = start, -1
    while row >= 0:
        step, nearest = inf, -1
        for j in range(n):
            if seen[j]:
                continue
            through = cost[row][j] - row_price[row] - column_price[j]
            if through < reach[j]:
                reach[j], came[j] = through, column
            if reach[j] < step:
                step, nearest = reach[j], j
        row_price[start] += step
        for j in range(n):
            if seen[j]:
                row_price[taken[j]] += step
                column_price[j] -= step
            else:
                reach[j] -= step
        seen[nearest] = True
        column, row = nearest, taken[nearest]
    while column >= 0:
        before = came[column]
        taken[column] = taken[before] if before >= 0 else start
        column = before
