"""What may be done to the adapters of a merge before any method sees them, module by module, and undone in the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.merge.core import LowRank
from adapterbank.merge.options import Option, did_you_mean, options_of, parse_options
from adapterbank.merge.stack import Stack

Finish = Callable[[Stack, LowRank | Tensor], LowRank | Tensor]


@dataclass(frozen=True, slots=True)
class Preparation:
    """A row of the table of preparations.

    ``prepare(stack, **options)`` returns the stack that the method sees; its keyword-only arguments are the options.
    ``finish`` is given the stack before the preparation and the merge of this module, and returns what it becomes.
    """

    name: str
    prepare: Callable[..., Stack]
    summary: str
    formula: str
    source: str
    finish: Finish | None = None

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that :attr:`prepare` declares."""
        return options_of(self.prepare)


@dataclass(frozen=True, slots=True)
class Prepare:
    """A preparation with all its options, as a recipe names it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any] | None = None) -> Prepare:
        """Defaults filled in. Raises UsageError for an unknown preparation or option, or a bad value."""
        return cls(name, parse_options(name, find(name).options, options or {}))


def find(name: str) -> Preparation:
    """The preparation ``name``. Raises UsageError that lists what exists."""
    from adapterbank.merge.preparations import PREPARATIONS  # the table's files need this one

    if name not in PREPARATIONS:
        known = list(PREPARATIONS)
        raise UsageError(
            f"unknown preparation {name!r}{did_you_mean(name, known)}", hint="preparations: " + (", ".join(known) or "none")
        )
    return PREPARATIONS[name]


def prepared(stack: Stack, steps: Sequence[Prepare]) -> Stack:
    """``stack`` after all ``steps``, in their order."""
    for step in steps:
        stack = find(step.name).prepare(stack, **step.options)
    return stack


def finished(stack: Stack, steps: Sequence[Prepare], matrix: LowRank | Tensor) -> LowRank | Tensor:
    """The merge ``matrix`` of a prepared ``stack`` (as it was before) with all ``steps`` finished, the last first."""
    before = [stack]
    for step in steps:
        before.append(find(step.name).prepare(before[-1], **step.options))
    for step, original in zip(reversed(steps), reversed(before[:-1]), strict=True):
        finish = find(step.name).finish
        matrix = matrix if finish is None else finish(original, matrix)
    return matrix
