"""The language of ``search`` and ``--where``: text to a tree, by recursive descent.

    expression = conjunction { "or" conjunction }        comparison = name operator value
    conjunction = negation { "and" negation }            operator   = "=" "!=" "<" "<=" ">" ">=" "~"
    negation = "not" negation | "(" expression ")" | comparison

A name or value is a word, or a string in quotes with backslash escapes. Errors point at the column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from adapterbank.errors import UsageError

_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>!=|<=|>=|==?|<|>|~)|(?P<bracket>[()])"""
    r"""|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<word>[^\s()=<>!~"']+))""",
    re.DOTALL,
)
_DEEPEST, _LONGEST, _MOST_TERMS = 50, 10_000, 200
_KEYWORDS = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; ``at`` is its column, counted from 0. ``kind`` is ``end`` after the last one."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """``name operator value``, with the tokens so that an error can point at them."""

    name: Token
    operator: str
    value: Token


@dataclass(frozen=True, slots=True)
class Not:
    item: Node


@dataclass(frozen=True, slots=True)
class And:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Node, ...]


Node = Comparison | Not | And | Or


def parse(text: str) -> Node:
    """The tree of an expression; UsageError shows the text with a caret at what is wrong."""
    if len(text) > _LONGEST:
        raise UsageError(f"search expression has {len(text)} characters: expected at most {_LONGEST}")
    parser = _Parser(text)
    tree = parser.expression(0)
    if parser.next.kind != "end":
        raise fault(text, parser.next.at, f"expected 'and', 'or' or the end, got {parser.next.text!r}")
    return tree


def fault(text: str, at: int, message: str) -> UsageError:
    """The error for column ``at`` of the expression ``text``."""
    line = re.sub(r"\s", " ", text)
    return UsageError(f"search expression, column {at + 1}: {message}\n  {line}\n  {' ' * at}^")


def _tokens(text: str) -> Iterator[Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            what = "a string without its closing quote" if text[start] in "\"'" else f"an unexpected {text[start]!r}"
            raise fault(text, start, what)
        kind = str(match.lastgroup)
        found = match.group(kind)
        yield Token(
            kind, re.sub(r"\\(.)", r"\1", found[1:-1], flags=re.DOTALL) if kind == "string" else found, match.start(kind)
        )
        at = match.end()
    yield Token("end", "the end", len(text))


class _Parser:
    """One token of look-ahead over the text."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._terms = text, _tokens(text), 0
        self.next = next(self._tokens)

    def expression(self, depth: int) -> Node:
        items = [self._conjunction(depth)]
        while self._keyword("or"):
            items.append(self._conjunction(depth))
        return items[0] if len(items) == 1 else Or(tuple(items))

    def _conjunction(self, depth: int) -> Node:
        items = [self._negation(depth)]
        while self._keyword("and"):
            items.append(self._negation(depth))
        return items[0] if len(items) == 1 else And(tuple(items))

    def _negation(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise fault(self._text, self.next.at, f"nested deeper than {_DEEPEST} levels")
        if self._keyword("not"):
            return Not(self._negation(depth + 1))
        if self.next.kind == "bracket" and self.next.text == "(":
            self._advance()
            inside = self.expression(depth + 1)
            if self.next.text != ")" or self.next.kind != "bracket":
                raise fault(self._text, self.next.at, f"expected ')', got {self.next.text!r}")
            self._advance()
            return inside
        return self._comparison()

    def _comparison(self) -> Comparison:
        self._terms += 1
        if self._terms > _MOST_TERMS:
            raise fault(self._text, self.next.at, f"more than {_MOST_TERMS} comparisons")
        name = self._expect("word", "string", what="a name, such as rank, base, tag.task or a metric")
        operator = self._expect("operator", what="an operator (= != < <= > >= ~)")
        value = self._expect("word", "string", what=f"a value after {operator.text!r}")
        return Comparison(name, operator.text.replace("==", "="), value)

    def _expect(self, *kinds: str, what: str) -> Token:
        token = self.next
        if token.kind not in kinds or (token.kind == "word" and token.text.lower() in _KEYWORDS):
            raise fault(self._text, token.at, f"expected {what}, got {token.text!r}")
        self._advance()
        return token

    def _keyword(self, word: str) -> bool:
        found = self.next.kind == "word" and self.next.text.lower() == word
        if found:
            self._advance()
        return found

    def _advance(self) -> None:
        self.next = next(self._tokens)
