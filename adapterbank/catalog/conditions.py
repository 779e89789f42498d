"""Comparisons of the search language as SQL conditions, two-valued: what a version lacks satisfies no comparison."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, false, func, not_, or_, select

from adapterbank.catalog import base_models
from adapterbank.catalog import tables as t
from adapterbank.catalog.expression import And, Comparison, Node, Not, Or, Token, fault

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d(\.\d+)?)?)?Z?)?)?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]i?)?b?", re.IGNORECASE)
_AFTER = "~"  # sorts after every character of a time

# name: column and kind of value
FIELDS: Mapping[str, tuple[ColumnElement[Any], str]] = {
    "name": (t.names.c.name, "text"),
    "version": (t.versions.c.number, "number"),
    "rank": (t.versions.c.rank, "number"),
    "alpha": (t.versions.c.alpha, "number"),
    "base": (t.base_models.c.name, "base"),
    "bytes": (t.versions.c.bytes, "size"),
    "parameters": (t.versions.c.parameters, "number"),
    "created": (t.versions.c.created, "time"),
    "level": (t.versions.c.level, "text"),
    "kind": (t.versions.c.kind, "text"),
    "dtype": (t.versions.c.dtype, "text"),
    "rslora": (t.versions.c.rslora, "flag"),
    "method": (t.versions.c.method, "text"),
}


@dataclass(frozen=True)
class Compiler:
    """Compiles the tree of one expression; the keys of tags and metrics in the bank decide what a bare name means."""

    tx: Connection
    text: str

    def condition(self, node: Node) -> ColumnElement[bool]:
        """The where-clause of a tree, over the joined tables of a version. Raises UsageError with a caret."""
        if isinstance(node, Not):
            return not_(self.condition(node.item))
        if isinstance(node, And):
            return and_(*map(self.condition, node.items))
        if isinstance(node, Or):
            return or_(*map(self.condition, node.items))
        return self._comparison(node)

    def _comparison(self, node: Comparison) -> ColumnElement[bool]:
        name = node.name.text
        if node.name.kind == "word":
            if name == "alias":
                return _exists(t.aliases, self._text(t.aliases.c.alias, node))
            if name in FIELDS:
                return self._field(*FIELDS[name], node)
            for table, prefix in ((t.tags, "tag."), (t.metrics, "metric.")):
                if name.startswith(prefix):
                    return self._label(table, name.removeprefix(prefix), node)
        return self._bare(name, node)

    def _bare(self, name: str, node: Comparison) -> ColumnElement[bool]:
        """A name that is no field: a metric where the value is a number, or a tag."""
        known = {table.name: set(self.tx.scalars(select(table.c.key).distinct())) for table in (t.tags, t.metrics)}
        if name not in known["tags"] | known["metrics"]:
            listed = "; ".join(f"{what}: {', '.join(sorted(names)[:12]) or 'none'}" for what, names in known.items())
            raise fault(self.text, node.name.at, f"unknown name {name!r} (fields: {', '.join([*FIELDS, 'alias'])}; {listed})")
        found = [self._label(t.tags, name, node)] if name in known["tags"] else []
        if name in known["metrics"] and (not found or (node.operator != "~" and _number(node.value) is not None)):
            found.append(self._label(t.metrics, name, node))
        return or_(*found)

    def _label(self, table: Table, key: str, node: Comparison) -> ColumnElement[bool]:
        inside = self._text(table.c.value, node) if table is t.tags else self._number(table.c.value, node, _number)
        return _exists(table, and_(table.c.key == key, inside))

    def _field(self, column: ColumnElement[Any], kind: str, node: Comparison) -> ColumnElement[bool]:
        if kind == "number":
            return self._number(column, node, _number)
        if kind == "size":
            return self._number(column, node, _size)
        if kind == "flag":
            return self._flag(column, node)
        if kind == "time":
            return self._time(column, node)
        if kind == "base" and node.operator in ("=", "!="):
            model = base_models.find(self.tx, node.value.text)
            return _two_valued(_OPERATORS[node.operator](column, model.name if model else node.value.text))
        return self._text(column, node)

    def _text(self, column: ColumnElement[Any], node: Comparison) -> ColumnElement[bool]:
        if node.operator == "~":
            return _two_valued(column.icontains(node.value.text, autoescape=True))
        return _two_valued(_OPERATORS[node.operator](column, node.value.text))

    def _number(
        self, column: ColumnElement[Any], node: Comparison, read: Callable[[Token], float | None]
    ) -> ColumnElement[bool]:
        value = read(node.value)
        if node.operator == "~":
            raise fault(self.text, node.name.at, f"'~' searches in text, {node.name.text!r} is a number")
        if value is None:
            raise fault(self.text, node.value.at, f"expected a number for {node.name.text!r}, got {node.value.text!r}")
        return _two_valued(_OPERATORS[node.operator](column, value))

    def _flag(self, column: ColumnElement[Any], node: Comparison) -> ColumnElement[bool]:
        value = node.value.text.lower()
        if node.operator not in ("=", "!=") or value not in _TRUE + _FALSE:
            raise fault(self.text, node.name.at, f"expected {node.name.text}=true or {node.name.text}=false")
        return column.is_((value in _TRUE) == (node.operator == "="))

    def _time(self, column: ColumnElement[Any], node: Comparison) -> ColumnElement[bool]:
        """A time such as ``2026-11`` means all of that month: equal is within, later is after its end."""
        value = node.value.text
        if node.operator == "~" or not _TIME.fullmatch(value):
            raise fault(
                self.text, node.value.at, f"expected a time such as 2026-11-23 or 2026-11-23T14:30 (UTC), got {value!r}"
            )
        within = func.substr(column, 1, len(value)) == value
        if node.operator in ("=", "!="):
            return within if node.operator == "=" else not_(within)
        return _two_valued(_OPERATORS[node.operator](column, value + _AFTER if node.operator in (">", "<=") else value))


def _two_valued(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """NULL counts as false, so that ``not`` is the complement."""
    return func.coalesce(condition, false())


def _exists(table: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(table.c.version_id == t.versions.c.id, condition)


def _number(token: Token) -> float | None:
    try:
        value = float(token.text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _size(token: Token) -> float | None:
    """Bytes: ``1500``, ``10MB`` (decimal) or ``8MiB`` (binary)."""
    match = _SIZE.fullmatch(token.text)
    if match is None:
        return _number(token)
    number, prefix = match.groups()
    step = 1024 if prefix and prefix.lower().endswith("i") else 1000
    return float(number) * (step ** ("kmgt".index(prefix[0].lower()) + 1) if prefix else 1)
