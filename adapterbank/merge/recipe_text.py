"""Recipes as YAML, for people to read, write and keep under version control; the same recipe comes back, with the same digest.

An input is named by ``ref`` (a reference in some bank), by ``digest`` (its content), or by both: then they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from adapterbank.errors import UsageError
from adapterbank.merge.recipe import Recipe

_HEAD = """\
# A merge. Do it again: adapterbank merge --recipe FILE --name NAME
# An input is named by ref, by digest (of its content), or by both.
"""
_KEYS = ("method", "inputs", "options", "rank", "absent", "prepare", "schedules", "artefacts", "continues", "seed", "dtype")
_DEFAULTS: Mapping[str, Any] = {
    "rank": None, "absent": "zero", "prepare": [], "schedules": [], "artefacts": [], "continues": None, "seed": 0,
    "dtype": "float32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """An input as a file names it, by either or both."""

    ref: str | None
    digest: str | None
    weight: float


@dataclass(frozen=True, slots=True)
class Written:
    """What a file says; ``settings`` are the fields of :class:`Recipe` beside method and inputs that it names."""

    method: str
    inputs: tuple[Named, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def to_yaml(recipe: Recipe, refs: Mapping[str, str]) -> str:
    """The recipe with the reference of each content digest beside it; what is as by default is left out."""
    body: dict[str, Any] = {
        "method": recipe.method,
        "inputs": [
            {"ref": refs[part.digest], "digest": part.digest, "weight": part.weight}
            if part.digest in refs
            else {"digest": part.digest, "weight": part.weight}
            for part in recipe.inputs
        ],
    }
    body |= {"options": dict(recipe.options)} if recipe.options else {}
    prepare = [{"name": step.name, "options": dict(step.options)} for step in recipe.prepare]
    values: dict[str, Any] = {
        "rank": dict(recipe.rank) if isinstance(recipe.rank, Mapping) else recipe.rank,
        "absent": recipe.absent,
        "prepare": prepare,
        "schedules": [dict(each) for each in recipe.schedules],
        "artefacts": list(recipe.artefacts),
        "continues": None if recipe.continues is None else dict(recipe.continues),
        "seed": recipe.seed,
        "dtype": recipe.dtype,
    }
    body |= {key: value for key, value in values.items() if value != _DEFAULTS[key]}
    text: str = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)
    return _HEAD + text


def from_yaml(text: str, where: str = "recipe") -> Written:
    """What a file says. Raises UsageError naming ``where`` for text that is no YAML, and for keys or values of no recipe."""
    body = _parsed(text, where)
    unknown = sorted(set(body) - set(_KEYS))
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", hint="keys: " + ", ".join(_KEYS))
    if not isinstance(body.get("method"), str):
        raise UsageError(f"{where}: method: got {body.get('method')!r}, expected the name of one", hint="adapterbank methods")
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise UsageError(f"{where}: inputs: expected a list of adapters, each with ref or digest and a weight")
    settings = {key: _checked(key, body[key], where) for key in body if key not in ("method", "inputs")}
    return Written(body["method"], tuple(_input(entry, where) for entry in inputs), settings)


def _input(entry: Any, where: str) -> Named:
    entry = {"ref": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not set(entry) <= {"ref", "digest", "weight"} or not {"ref", "digest"} & set(entry):
        raise UsageError(f"{where}: input {entry!r}: expected ref or digest, and weight")
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise UsageError(f"{where}: weight of {entry.get('ref') or entry.get('digest')}: got {weight!r}, expected a number")
    names = [entry.get("ref"), entry.get("digest")]
    if not all(name is None or isinstance(name, str) for name in names):
        raise UsageError(f"{where}: input {entry!r}: ref and digest are texts")
    return Named(names[0], names[1], float(weight))


def _checked(key: str, value: Any, where: str) -> Any:
    """The value of a setting, its shape checked: what it means is checked where the recipe is made."""
    shapes: Mapping[str, tuple[type | tuple[type, ...], str]] = {
        "options": (dict, "names with values"),
        "prepare": (list, "a list of names, or of name and options"),
        "schedules": (list, "a list of schedules"),
        "artefacts": (list, "a list of digests"),
        "continues": (dict, "names with numbers"),
        "seed": (int, "an integer"),
        "dtype": (str, "the name of one"),
        "absent": (str, "zero, renormalize or refuse"),
    }
    if key in shapes and (not isinstance(value, shapes[key][0]) or isinstance(value, bool)):
        raise UsageError(f"{where}: {key}: got {value!r}, expected {shapes[key][1]}")
    if key == "prepare":
        return tuple(_step(step, where) for step in value)
    return tuple(value) if isinstance(value, list) else value


def _step(step: Any, where: str) -> tuple[str, dict[str, Any]]:
    step = {"name": step} if isinstance(step, str) else step
    if not isinstance(step, dict) or not set(step) <= {"name", "options"} or not isinstance(step.get("name"), str):
        raise UsageError(f"{where}: prepare: got {step!r}, expected name and options")
    return step["name"], dict(step.get("options") or {})


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        _refuse_twice(yaml.compose(text, Loader=yaml.SafeLoader))
        body = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{where}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise UsageError(f"{where}: expected keys and values, got {type(body).__name__}", hint="keys: " + ", ".join(_KEYS))
    return body


def _refuse_twice(node: Any) -> None:
    """Raise ValueError for a key that is given twice anywhere: YAML libraries take the last one without a word."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        twice = [key for place, key in enumerate(keys) if key in keys[:place]]
        if twice:
            raise ValueError(f"the key {twice[0]!r} is given twice, line {node.start_mark.line + 1}")
        for _, value in node.value:
            _refuse_twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twice(value)
