"""The documents that ``--json`` prints: their keys are a promise, each class is one, ``docs/cli.md`` lists them.

A number that is not finite is null; bytes are bytes; an error is relative in ΔW; a digest is 64 hex digits; a time is
ISO 8601 in UTC.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

Document = TypeVar("Document", bound=Mapping[str, Any])


def document(kind: type[Document], value: Any, **given: Any) -> Document:
    """The document ``kind``: each key is ``given``, else the attribute (or item) of ``value`` with its name."""
    hints = get_type_hints(kind)
    return kind(**{key: _shaped(hint, given[key] if key in given else _of(value, key)) for key, hint in hints.items()})


def _of(value: Any, key: str) -> Any:
    return value[key] if isinstance(value, Mapping) else getattr(value, key)


def _shaped(hint: Any, value: Any) -> Any:
    """``value`` as its annotation says: nested documents too; a collection becomes its size where a number is due."""
    if value is not None and get_origin(hint) is types.UnionType:
        hint = next(part for part in get_args(hint) if part is not type(None))
    if value is not None and is_typeddict(hint):
        return document(hint, value)
    if get_origin(hint) is list:
        return [_shaped(get_args(hint)[0], item) for item in value]
    if get_origin(hint) is dict:
        return {str(key): _shaped(get_args(hint)[1], item) for key, item in value.items()}
    return len(value) if hint is int and isinstance(value, tuple) else plain(value)


def plain(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses become objects, a number that is not finite null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)
