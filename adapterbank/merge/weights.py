"""Weights per module: by the module's name and by its depth, as mergekit's filters and gradients.

A rule is a mapping with these keys; the first whose ``input`` and ``modules`` fit an adapter and a module decides:

- ``modules``: a glob on the module's whole name, or ``re:`` and a regular expression that is searched in it; by default all.
- ``input``: the content digest of the adapter it is for; by default every one.
- ``weight``: the weight there; or ``times``: what the adapter's own weight is multiplied by. A number, or a list of numbers
  spread evenly over the depth from layer 0 to the last layer of the merge, with straight lines between them.

A module's layer is the first number that stands by itself between dots in its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

from adapterbank.errors import UsageError

_LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")
_KEYS = frozenset({"modules", "input", "weight", "times"})


def scheduled(
    rules: Sequence[Mapping[str, Any]], modules: Sequence[str], names: Sequence[str], weights: Sequence[float]
) -> dict[str, tuple[float, ...]]:
    """The weights of the adapters ``names`` in every module where a rule changes them, by module.

    Raises UsageError for a rule that cannot be read, that fits no module or no adapter of the merge, or that spreads a list
    over a module without a layer.
    """
    for rule in rules:
        _check(rule, modules, names)
    last = max((layer for layer in map(layer_of, modules) if layer is not None), default=0)
    found: dict[str, tuple[float, ...]] = {}
    for module in modules:
        own = tuple(_weight(rules, module, last, *pair) for pair in zip(names, weights, strict=True))
        if own != tuple(weights):
            found[module] = own
    return found


def layer_of(module: str) -> int | None:
    """The number of the layer that ``module`` belongs to; None if its name has no number."""
    match = _LAYER.search(module)
    return int(match.group(1)) if match else None


def _weight(rules: Sequence[Mapping[str, Any]], module: str, last: int, name: str, weight: float) -> float:
    for rule in rules:
        if rule.get("input", name) == name and _fits(rule.get("modules", "*"), module):
            value = _value(rule.get("weight", rule.get("times")), module, last)
            return float(value if "weight" in rule else weight * value)
    return weight


def _value(value: Any, module: str, last: int) -> float:
    """The number, or the list's value at the depth of the module."""
    if not isinstance(value, list | tuple):
        return float(value)
    layer = layer_of(module)
    if layer is None:
        raise UsageError(
            f"schedules: {list(value)} goes by depth, and the name of module {module!r} has no layer number",
            hint="put a rule with a single number for it ahead",
        )
    place = layer / last * (len(value) - 1) if last else 0.0
    below = min(int(place), len(value) - 2) if len(value) > 1 else 0
    return float(value[below] + (value[min(below + 1, len(value) - 1)] - value[below]) * (place - below))


def _fits(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return re.search(pattern[3:], module) is not None
    return fnmatchcase(module, pattern)


def _check(rule: Mapping[str, Any], modules: Sequence[str], names: Sequence[str]) -> None:
    given = dict(rule) if isinstance(rule, Mapping) else rule
    if not isinstance(rule, Mapping) or not rule.keys() <= _KEYS or len(rule.keys() & {"weight", "times"}) != 1:
        raise UsageError(f"schedules: got {given!r}, expected a rule of modules, input, and weight or times")
    value, pattern = rule.get("weight", rule.get("times")), rule.get("modules", "*")
    if not all(map(_number, value)) or not value if isinstance(value, list | tuple) else not _number(value):
        raise UsageError(f"schedules: {given!r}: got {value!r}, expected a number or a list of numbers")
    if not isinstance(pattern, str) or not _readable(pattern):
        raise UsageError(f"schedules: {given!r}: modules is no pattern", hint="a glob, or re: and a regular expression")
    if not any(_fits(pattern, module) for module in modules):
        raise UsageError(f"schedules: {pattern!r} fits none of {len(modules)} modules", hint=f"one of them is {modules[0]!r}")
    if rule.get("input", names[0]) not in names:
        raise UsageError(f"schedules: no adapter of this merge has the digest {rule['input']!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _readable(pattern: str) -> bool:
    try:
        _fits(pattern, "")
    except re.error:
        return False
    return True
