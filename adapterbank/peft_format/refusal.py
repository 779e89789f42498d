"""From a list of problems to one error that tells them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapterbank.errors import Problem, RefusedInputError

_SHOWN = 20
HINT = "docs/formats.md lists every code and what to do about it"


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those problems that refuse the input."""
    return [problem for problem in problems if problem.severity == "error"]


def refusal(problems: Sequence[Problem], hint: str | None = None) -> RefusedInputError:
    """The error to raise: the first lines of its message name the problems, ``.problems`` has all of them."""
    wrong = errors(problems)
    lines = [f"{problem.code}: {problem.message}" for problem in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"… and {len(wrong) - _SHOWN} more")
    count = "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
    return RefusedInputError("\n  ".join([f"adapter refused, {count}:", *lines]), problems, hint=hint or HINT)
