"""A method's options, read from its signature: typed, with a help text, parsed from strings or values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from adapterbank.errors import UsageError


@dataclass(frozen=True, slots=True)
class Hint:
    """What stands beside an option's type: its help, and bounds: ``above < value``, ``at_least ≤ value ≤ at_most``."""

    help: str
    above: float | None = None
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``type`` is float, int, bool or str; a str has ``choices``."""

    name: str
    type: type
    default: Any
    hint: Hint
    choices: tuple[str, ...] = ()

    def parse(self, value: object) -> Any:
        """``value`` (or its text) as this option's type. Raises UsageError naming the option, what it got and expected."""
        try:
            parsed = _CONVERT[self.type](value)
        except (TypeError, ValueError, KeyError):
            parsed = None
        if parsed is None or not self._allows(parsed):
            raise UsageError(f"option {self.name}: got {value!r}, expected {self.expected}")
        return parsed

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        above, at_least, at_most = self.hint.above, self.hint.at_least, self.hint.at_most
        high = (above is None or value > above) and (at_least is None or value >= at_least)
        return high and (at_most is None or value <= at_most)

    @property
    def expected(self) -> str:
        """The values that are allowed, in words."""
        if self.choices:
            return " or ".join(self.choices)
        parts = [{float: "a number", int: "an integer", bool: "true or false"}[self.type]]
        parts += [f"above {self.hint.above:g}"] if self.hint.above is not None else []
        parts += [f"at least {self.hint.at_least:g}"] if self.hint.at_least is not None else []
        parts += [f"at most {self.hint.at_most:g}"] if self.hint.at_most is not None else []
        return " ".join((parts[0], " and ".join(parts[1:]))).strip()


Scale = Annotated[float, Hint("λ: multiplies the merged delta")]
Density = Annotated[float, Hint("fraction of the entries of each ΔW that is kept", above=0.0, at_most=1.0)]

Space = Annotated[
    Literal["full", "core", "knots", "factors"],
    Hint("where entries are compared: ΔW itself, Core Space, KnOTS' aligned right vectors, or A and B apart"),
]


def options_of(function: Callable[..., object]) -> tuple[Option, ...]:
    """The keyword-only arguments of ``function``, each ``Annotated[type, Hint(…)]`` with a default."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    keywords = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return tuple(_option(parameter, hints[parameter.name]) for parameter in keywords)


def parse_options(method: str, options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options with their values, defaults filled in. Raises UsageError for an unknown name or a bad value."""
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            raise UsageError(f"method {method!r} has no option {name!r}{did_you_mean(name, known)}", hint=_listing(options))
    return {name: option.parse(given[name]) if name in given else option.default for name, option in known.items()}


def did_you_mean(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """``": did you mean 'density'?"``, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _option(parameter: inspect.Parameter, annotation: Any) -> Option:
    kind, hint = get_args(annotation)
    if get_origin(kind) is Literal:
        return Option(parameter.name, str, parameter.default, hint, get_args(kind))
    return Option(parameter.name, kind, parameter.default, hint)


def _listing(options: Sequence[Option]) -> str:
    if not options:
        return "it takes no options"
    return "its options: " + ", ".join(f"{o.name} ({o.expected}; default {o.default})" for o in options)


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not isfinite(number):
        raise ValueError(value)
    return number


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _flag(value: Any) -> bool:
    return _FLAGS[str(value).lower()]


_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CONVERT: Mapping[type, Callable[[Any], Any]] = {float: _number, int: _integer, bool: _flag, str: str}
