"""Bytes as people write them."""

from __future__ import annotations

import re
from decimal import Decimal

from adapterbank.errors import UsageError

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?) ?(?:([kmgt])(i?))?b?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LONGEST = 64


def size(text: str | int, what: str) -> int:
    """Bytes from a whole number, or from ``8GiB`` (binary), ``8GB`` or ``8G`` (decimal), as in searches.

    Raises UsageError, naming ``what``, for anything else: a negative number, infinity, another type.
    """
    found = _number(text) if isinstance(text, str) else text
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    shown = repr(text) if len(repr(text)) <= _LONGEST else f"{repr(text)[:_LONGEST]}…"
    raise UsageError(f"{what} is {shown}: expected bytes, such as 8GiB, 512MiB, 10GB or a whole number from 0")


def _number(text: str) -> int | None:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, letter, binary = found.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** _POWERS[(letter or "").lower()])
