"""What one invocation knows: which bank, which kind of output. The value behind every command's first argument."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from adapterbank.bank import Bank


def open_bank(location: str, *, create: bool = False, readonly: bool = False) -> Bank:
    """Open the bank; the façade is imported here, so that help and completion stay fast."""
    from adapterbank.bank import Bank

    return Bank.open(location, create=create, readonly=readonly)


@dataclass
class Session:
    """The common options, filled in while click parses: the innermost one given wins."""

    bank: str | None = None
    json: bool = False
    debug: bool = False
    arguments: tuple[str, ...] = ()
    opener: Callable[..., Bank] = open_bank

    @property
    def location(self) -> str:
        """``--bank``, else ``ADAPTERBANK``, else the platform's data folder."""
        return self.bank or os.environ.get("ADAPTERBANK") or _data_folder()

    def again(self, more: str) -> str:
        """The line that was typed, with ``more`` at its end: the hint where something was left out."""
        return f"{shlex.join(['adapterbank', *self.arguments])} {more}"

    def open(self, *, create: bool = False, readonly: bool = False) -> Bank:
        """The bank, closed when the command ends."""
        bank = self.opener(self.location, create=create, readonly=readonly)
        return click.get_current_context().with_resource(bank)


def _data_folder() -> str:
    import platformdirs

    return platformdirs.user_data_dir("adapterbank", appauthor=False)


def pass_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command its session as first argument."""

    @functools.wraps(function)
    def with_session(*args: Any, **kwargs: Any) -> Any:
        return function(click.get_current_context().ensure_object(Session), *args, **kwargs)

    return with_session
