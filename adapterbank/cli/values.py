"""Words of the command line that are more than a string: K=V pairs, REF=WEIGHT, NAME@ALIAS, references."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from adapterbank.cli.session import Session
from adapterbank.errors import UsageError
from adapterbank.refs import Ref

if TYPE_CHECKING:
    from adapterbank.bank import Bank

    _Word = click.ParamType[Any]
else:
    _Word = click.ParamType  # generic for type checkers only: at run time not before click 8.3


class Pair(_Word):
    """``K=V``: a key and a text."""

    name = "K=V"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r}: expected {self.name}", param, ctx)
        return key, self.read(text, param, ctx)

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value behind the equals sign."""
        return text


class NumberPair(Pair):
    """``K=NUMBER``."""

    name = "K=NUMBER"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number", param, ctx)


class Step(_Word):
    """``NAME[:K=V,…]``: something with its options; completes as ``of`` does."""

    name = "NAME[:K=V,...]"

    def __init__(self, of: _Word | None = None) -> None:
        self.of = of

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [] if self.of is None else self.of.shell_complete(ctx, param, incomplete)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, dict[str, str]]:
        if isinstance(value, tuple):
            return value
        name, colon, rest = value.partition(":")
        pairs = [word.partition("=") for word in rest.split(",")] if colon else []
        if not name or not all(key and equals for key, equals, _ in pairs):
            self.fail(f"{value!r}: expected {self.name}", param, ctx)
        return name, {key: text for key, _, text in pairs}


class Schedule(_Word):
    """``[REF:]PATTERN=NUMBER[,NUMBER…]``: what the weights of modules are multiplied by, by name or by depth."""

    name = "[REF:]PATTERN=NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        where, equals, text = value.rpartition("=")
        try:
            numbers = [float(number) for number in text.split(",")]
        except ValueError:
            self.fail(f"{text!r}: expected a number, or several with commas between them", param, ctx)
        ref, colon, pattern = where.partition(":")
        if not equals or not where:
            self.fail(f"{value!r}: expected {self.name}", param, ctx)
        rule = {"ref": ref, "modules": pattern} if colon and ref != "re" else {"modules": where}
        return {**rule, "times": numbers if len(numbers) > 1 else numbers[0]}


class AliasPlace(_Word):
    """``NAME@ALIAS``."""

    name = "NAME@ALIAS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        ref = Ref.parse(value)
        if ref.name is None or ref.alias is None:
            self.fail(f"{value!r}: expected NAME@ALIAS, the alias not all digits", param, ctx)
        return ref.name, ref.alias

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(ctx, incomplete, lambda bank: (f"{a.name}@{a.alias}" for a in bank.list_aliases()))


class VersionNumber(_Word):
    """A version number: 1, 2, 3 …"""

    name = "VERSION"
    expected = "a version number, 1 or more"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            self.fail(f"{value!r}: expected {self.expected}", param, ctx)
        return int(value)


class Expected(VersionNumber):
    """A version number, or ``none``: the alias does not exist yet."""

    name = "VERSION|none"
    expected = "a version number, 1 or more, or none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in (None, "any"):
            return value
        return None if value == "none" else super().convert(value, param, ctx)


class VersionRef(_Word):
    """A reference to a version; completes names, then versions and aliases of the name."""

    name = "REF"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(ctx, incomplete, lambda bank: _references(bank, incomplete))


class BasisRef(_Word):
    """A reference to a basis: ``b1`` or ``b1@2``."""

    name = "BASIS"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(ctx, incomplete, lambda bank: (word for b in bank.bases() for word in (b.name, b.ref)))


class MethodName(_Word):
    """A merge method; the bank judges it, so that help needs no torch."""

    name = "METHOD"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from adapterbank.merge import all_methods

        return [CompletionItem(name) for name in all_methods() if name.startswith(incomplete)]


def _references(bank: Bank, incomplete: str) -> Iterator[str]:
    name, at, _ = incomplete.partition("@")
    if not at:
        yield from (version.name for version in bank.versions())
        return
    yield from (version.ref for version in bank.versions(names=[name]))
    yield from (f"{alias.name}@{alias.alias}" for alias in bank.list_aliases(name))


def _completed(ctx: click.Context, incomplete: str, words: Any) -> list[CompletionItem]:
    """The words that begin as typed; none where there is no bank, a shell has no place for an error."""
    session = ctx.ensure_object(Session)
    with suppress(Exception), session.opener(session.location, readonly=True) as bank:
        found = sorted({word for word in words(bank) if word.startswith(incomplete)})
        return [CompletionItem(word) for word in found]
    return []


def expand(words: Iterable[str]) -> tuple[str, ...]:
    """The words, each ``@FILE`` replaced by the file's references (one a line, # comments); ``@-`` is stdin."""
    return tuple(ref for word in words for ref in (_lines(word[1:]) if word.startswith("@") else [word]))


def _lines(path: str) -> list[str]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"@{path}: cannot be read as a list of references: {reason}") from None
    return [ref for line in text.splitlines() if (ref := line.partition("#")[0].strip())]


def weighted(words: Iterable[str]) -> dict[str, float]:
    """``REF[=WEIGHT]`` words as weights by reference, 1 where none is given."""
    weights: dict[str, float] = {}
    for word in words:
        ref, equals, text = word.partition("=")
        if ref in weights:
            raise UsageError(f"{ref!r} is given twice: give one weight for it")
        try:
            weights[ref] = float(text) if equals else 1.0
        except ValueError:
            raise UsageError(f"{word!r}: expected REF=WEIGHT with a number, got {text!r}") from None
    return weights
