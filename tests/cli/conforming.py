"""Does a JSON value have exactly the keys and types that a document promises?"""

from __future__ import annotations

import types
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict


def faults(hint: Any, value: Any, at: str = "$") -> list[str]:
    """Where ``value`` is not what ``hint`` says; empty if it conforms."""
    if hint is Any:
        return []
    if is_typeddict(hint):
        return _keys(hint, value, at)
    if get_origin(hint) is types.UnionType:
        tried = [faults(part, value, at) for part in get_args(hint)]
        return [] if [] in tried else tried[0]
    if get_origin(hint) in (list, dict) and type(value) is not get_origin(hint):
        return [f"{at}: {value!r} is no {hint}"]
    if get_origin(hint) is list:
        return [fault for i, item in enumerate(value) for fault in faults(get_args(hint)[0], item, f"{at}[{i}]")]
    if get_origin(hint) is dict:
        return [fault for key, item in value.items() for fault in faults(get_args(hint)[1], item, f"{at}.{key}")]
    numeric = hint is float and type(value) is int
    return [] if type(value) is hint or numeric else [f"{at}: {value!r} is no {hint}"]


def _keys(hint: Any, value: Any, at: str) -> list[str]:
    hints = get_type_hints(hint)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        return [f"{at}: {value!r} has not the keys {list(hints)}"]
    return [fault for key, part in hints.items() for fault in faults(part, value[key], f"{at}.{key}")]
