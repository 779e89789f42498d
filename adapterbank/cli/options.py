"""Options that several commands share, each one decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from adapterbank.cli.values import Schedule, Step, VersionRef, expand, weighted
from adapterbank.errors import UsageError

if TYPE_CHECKING:
    from adapterbank.bank import Bank

ABSENT = ("zero", "renormalize", "refuse")
DTYPES = ("float32", "float16", "bfloat16")
Decorated = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """What ``REF…``, ``@FILE`` and ``--where`` say together."""

    refs: tuple[str, ...]
    where: str | None

    def __bool__(self) -> bool:
        return bool(self.refs) or self.where is not None

    def of(self, bank: Bank) -> list[str]:
        """The versions selected, each once; UsageError if there is none."""
        return [version.ref for version in bank.select(self.refs, self.where)]

    def weights(self, bank: Bank) -> dict[str, float]:
        """The same where each reference may have ``=WEIGHT``; what ``--where`` adds has weight 1."""
        added = bank.select((), self.where) if self.where is not None else []
        return weighted([*self.refs, *(version.ref for version in added)])


def references(metavar: str = "REF...") -> Callable[[Decorated], Decorated]:
    """Arguments ``REF…`` with ``@FILE`` and ``--where``; the command gets one ``selection``."""

    def decorate(function: Decorated) -> Decorated:
        @functools.wraps(function)
        def with_selection(*args: Any, refs: tuple[str, ...], where: str | None, **kwargs: Any) -> Any:
            return function(*args, selection=Selection(expand(refs), where), **kwargs)

        help_ = "Also the versions that this selects, such as 'rank=16 and base~llama'."
        option = click.option("--where", metavar="EXPR", help=help_)
        return click.argument("refs", metavar=metavar, nargs=-1, type=VersionRef())(option(with_selection))

    return decorate


def reference(function: Decorated) -> Decorated:
    """One argument ``REF``."""
    return click.argument("ref", metavar="REF", type=VersionRef())(function)


def listing(function: Decorated) -> Decorated:
    """``--limit`` and ``--sort``."""
    sort = click.option("--sort", metavar="KEY", help="A field or a metric, or several with commas; -KEY is descending.")
    limit = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N rows.")
    return limit(sort(function))


def effort(function: Decorated) -> Decorated:
    """``--effort``."""
    return click.option(
        "--effort", type=click.IntRange(0, 3), metavar="N", help="How often to go over an adapter again, 0 to 3. Default: 1."
    )(function)


def output_rank(function: Decorated) -> Decorated:
    """``--rank``, ``--energy``, ``--max-error`` or ``--exact``; the command gets one ``rank``."""

    @functools.wraps(function)
    def with_rank(*args: Any, **given: Any) -> Any:
        wanted = {key: value for key in _RANKS if (value := given.pop(key)) is not None and value is not False}
        if len(wanted) > 1:
            flags = ", ".join(f"--{key.replace('_', '-')}" for key in wanted)
            raise UsageError(f"expected one way to say the rank, got {flags}")
        return function(*args, rank=next((_RANKS[key](value) for key, value in wanted.items()), None), **given)

    for option in (
        click.option("--exact", is_flag=True, help="Cut nothing: the ranks add up."),
        click.option("--max-error", type=click.FloatRange(0, 1, max_open=True), metavar="E", help="The least rank within E."),
        click.option(
            "--energy", type=click.FloatRange(0, 1, min_open=True), metavar="E", help="The least that keeps this share."
        ),
        click.option("--rank", type=click.IntRange(min=1), metavar="R", help="Output rank. Default: the largest input rank."),
    ):
        with_rank = option(with_rank)
    return with_rank


_RANKS: dict[str, Callable[[Any], Any]] = {
    "rank": lambda value: value,
    "energy": lambda value: {"energy": value},
    "max_error": lambda value: {"error": value},
    "exact": lambda _: "exact",
}


def merging(function: Decorated) -> Decorated:
    """``--absent``, ``--prepare``, ``--weights-by``, ``--seed``, ``--dtype``: of a recipe beside method, inputs and rank."""
    for option in (
        click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="As stored."),
        click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="For methods that draw."),
        click.option(
            "--weights-by", "schedules", multiple=True, type=Schedule(),
            help="Multiply the weights in modules of this name; several numbers go over the depth.",
        ),
        click.option("--prepare", multiple=True, type=Step(), help="Done to the adapters first; may be repeated."),
        click.option(
            "--absent", type=click.Choice(ABSENT), default="zero", show_default=True, help="A module that an adapter lacks."
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def device(function: Decorated) -> Decorated:
    """``--device``."""
    return click.option("--device", default="cpu", show_default=True, metavar="D", help="Where it is computed.")(function)


def dry_run(function: Decorated) -> Decorated:
    """``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Only print what would be done.")(function)


def force(what: str) -> Callable[[Decorated], Decorated]:
    """``--force``, whose help says what it forces."""
    return click.option("--force", is_flag=True, help=what)
