"""JSON from strangers: no duplicate keys, no NaN or Infinity, bounded depth, UTF-8 only."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any


class BadJSONError(ValueError):
    """The text is not JSON as strict as we want it; ``code`` is the kind of fault."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def loads(data: bytes, *, depth: int) -> Any:
    """The value in ``data``; BadJSONError with code ``json``, ``duplicate_key``, ``json_constant`` or ``json_depth``."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse, parse_float=_finite
        )
    except BadJSONError:
        raise
    except RecursionError:
        raise BadJSONError("json_depth", f"nested deeper than {depth} levels") from None
    except ValueError as reason:  # a decoding error, a syntax error, or an integer of more than 4300 digits
        raise BadJSONError("json", f"not JSON in UTF-8: {reason}") from None
    if _deeper(value, depth):
        raise BadJSONError("json_depth", f"nested deeper than {depth} levels")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadJSONError("duplicate_key", f"the key {key[:80]!r} appears twice in one object")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise BadJSONError("json_constant", f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise BadJSONError("json_constant", f"the number {text[:40]} overflows")
    return number


def _deeper(value: Any, depth: int) -> bool:
    """Whether ``value`` nests more than ``depth`` containers, level by level so that no depth can hurt."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)
