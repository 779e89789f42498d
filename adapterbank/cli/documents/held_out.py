"""Documents about what was learned, judged on data that it did not see."""

from __future__ import annotations

from typing import TypedDict


class MeasuredDocument(TypedDict):
    """A figure of what the method started from (``before``) and of what it came to (``after``), also by task. ``own``: what the
    method sets out to improve. ``rank``: both cut to it, null: before any cut."""

    objective: str
    own: bool
    rank: int | None
    larger_is_better: bool
    before: float | None
    after: float | None
    tasks: dict[str, list[float]]


class PointDocument(TypedDict):
    """One of several results by its number, and its objective; ``non_dominated``: no other is as good on all tasks and better
    on one."""

    number: int
    value: float | None
    tasks: dict[str, float]
    non_dominated: bool


class HeldOutDocument(TypedDict):
    """What was learned, on ``examples`` that it did not see; ``start`` says in words what ``before`` is of."""

    start: str
    examples: int
    measured: list[MeasuredDocument]
    points: list[PointDocument]
