"""Look-up of methods: the literal table first, then the entry points of other packages, loaded only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from adapterbank.errors import UsageError
from adapterbank.merge.method import Method
from adapterbank.merge.methods import METHODS
from adapterbank.merge.options import did_you_mean

GROUP = "adapterbank.merge_methods"


def find(name: str) -> Method:
    """The method ``name``. Raises UsageError that lists what exists; names of the table cannot be overridden."""
    if name in METHODS:
        return METHODS[name]
    others = _others()
    if name in others:
        return _load(others[name])
    known = [*METHODS, *others]
    raise UsageError(f"unknown merge method {name!r}{did_you_mean(name, known)}", hint="methods: " + ", ".join(known))


def all_methods() -> Mapping[str, Method]:
    """Every method by name: the table's, then those that other packages add."""
    return {**METHODS, **{name: _load(point) for name, point in _others().items()}}


def _others() -> dict[str, EntryPoint]:
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point for point in points if point.name not in METHODS}


def _load(point: EntryPoint) -> Method:
    try:
        method = point.load()
    except Exception as error:
        raise UsageError(f"merge method {point.name!r} of {point.value!r} cannot be loaded: {error}") from error
    if not isinstance(method, Method):
        raise UsageError(f"merge method {point.name!r}: {point.value!r} is a {type(method).__name__}, expected a Method")
    return method
