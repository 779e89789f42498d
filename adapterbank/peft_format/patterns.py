"""Keys of ``rank_pattern`` and ``alpha_pattern`` as PEFT matches them: ``re.match(rf"(.*\\.)?({key})$", module)``.

A plain key is compared, not compiled. A key with regex characters is evaluated only if it is short, has no quantified
group, and its worst case stays under a budget; so no key can take exponential time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KEY_LENGTH = 256
BUDGET = 2 * 10**9  # well under a second of matching in practice; a bound, not an estimate
_PLAIN = re.compile(r"\^?[A-Za-z0-9_.-]+")
_ATOM = r"(?:[A-Za-z0-9_.\-]|\\[.dw\-]|\[[A-Za-z0-9_\-]+\])"
_SAFE = re.compile(rf"\^?(?:{_ATOM}[*+?]?|[(|)])+\$?")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One key, checked; ``expression`` is None for a plain key."""

    key: str
    expression: re.Pattern[str] | None

    @classmethod
    def of(cls, key: str) -> Pattern:
        """The pattern of ``key``; ValueError says why it is not evaluated."""
        if len(key) > KEY_LENGTH:
            raise ValueError(f"longer than {KEY_LENGTH} characters")
        if _PLAIN.fullmatch(key):
            return cls(key, None)
        if not _SAFE.fullmatch(key):
            raise ValueError("only literals, '.', '\\.', \\d, \\w, [...], *, +, ? after one character, and (a|b) are evaluated")
        try:
            return cls(key, re.compile(rf"(.*\.)?({key})$"))
        except re.error as reason:
            raise ValueError(f"not a regular expression: {reason}") from None

    def cost(self, length: int) -> int:
        """A bound on the steps of one match against a name of ``length`` characters."""
        if self.expression is None:
            return length
        loops = len(re.findall(r"[*+]", self.key)) + 1
        bars = self.key.count("|") + 1
        choices: int = 2 ** self.key.count("?") * bars ** (self.key.count("(") + 1)
        return int(length**loops) * choices

    def matches(self, module: str) -> bool:
        """Whether PEFT takes this key for ``module`` (its name below ``base_model.model.``)."""
        if self.expression is not None:
            return self.expression.match(module) is not None
        anchored = self.key.startswith("^")
        key = self.key.removeprefix("^")
        start = len(module) - len(key)
        if start < 0 or (anchored and start) or (start and module[start - 1] != "."):
            return False
        # In PEFT's expression a dot in the key stands for any character.
        return all(wanted in (".", got) for wanted, got in zip(key, module[start:], strict=True))


def first_match(patterns: Sequence[Pattern], module: str) -> str | None:
    """The first key in the configuration's order that matches ``module``."""
    return next((pattern.key for pattern in patterns if pattern.matches(module)), None)


def too_costly(patterns: Iterable[Pattern], modules: Sequence[str]) -> bool:
    """Whether matching every pattern against every module may take more than the budget of steps."""
    lengths = [len(module) for module in modules]
    total = 0
    for pattern in patterns:
        for length in lengths:
            total += pattern.cost(length)
            if total > BUDGET:
                return True
    return False
