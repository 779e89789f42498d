"""From a model name in a request to a directory that the server can read, or to None with a reason in the log."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import platformdirs

from adapterbank.errors import AdapterBankError, NotFoundError, UsageError
from adapterbank.integrations.directories import Directories, Full
from adapterbank.refs import Ref
from adapterbank.units import size

if TYPE_CHECKING:
    from adapterbank.bank import Bank
    from adapterbank.ways.materialize import Planned

LOG = logging.getLogger("adapterbank.resolver")
OUTCOMES = ("resolved", "not_a_reference", "unknown", "mutable", "other_base_model", "unservable", "full", "failed")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the bank is, where directories lie and how many bytes they may take, and what may be resolved."""

    bank: str | None
    cache: Path
    limit: int
    server: str
    rank: int | None = None
    form: str = "auto"
    aliases: bool = False

    @classmethod
    def from_environment(cls, server: str, environment: Mapping[str, str] = os.environ) -> Settings:
        """From ``ADAPTERBANK`` and ``ADAPTERBANK_…`` variables. Raises UsageError for a value that makes no sense."""
        default = platformdirs.user_cache_path("adapterbank", appauthor=False) / server
        rank = environment.get("ADAPTERBANK_MAX_LORA_RANK")
        if rank is not None and not rank.isdigit():
            raise UsageError(f"ADAPTERBANK_MAX_LORA_RANK is {rank!r}: expected a number such as 16")
        return cls(
            environment.get("ADAPTERBANK"),
            Path(environment.get("ADAPTERBANK_CACHE") or default),
            size(environment.get("ADAPTERBANK_CACHE_BYTES", "16GiB"), "ADAPTERBANK_CACHE_BYTES"),
            server,
            None if rank is None else int(rank),
            environment.get("ADAPTERBANK_FORM", "auto"),
            environment.get("ADAPTERBANK_ALLOW_ALIASES") == "1",
        )


class Resolver:
    """One for each server process; its methods may be called from any thread."""

    def __init__(self, server: str, settings: Settings | None = None, log: logging.Logger = LOG) -> None:
        """Without ``settings`` those of the environment, read at the first request: an error there stops no server."""
        self.server, self._settings, self._log = server, settings, log
        self.outcomes: Counter[str] = Counter()
        self._lock = Lock()
        self._open: tuple[Settings, Bank, Directories] | None = None

    def resolve(self, base_model: str, name: str) -> Path | None:
        """The directory of the immutable version ``name``; or None if it is not ours, or not to be had.

        Never raises: the log says why, and ``outcomes`` counts it.
        """
        try:
            path = self.directory(base_model, name)
            self._count("resolved", f"{name} is served from {path}", logging.INFO)
            return path
        except Declined as reason:
            self._count(reason.outcome, f"{name}: {reason}")
        except Full as error:
            self._count("full", f"{name}: {error}")
        except AdapterBankError as error:
            self._count("unservable", f"{name}: {error}")
        except Exception as error:  # it would reach the client, and keep other resolvers from being asked
            self._count("failed", f"{name}: {type(error).__name__}: {error}", logging.ERROR)
        return None

    def directory(self, base_model: str | None, name: str) -> Path:
        """The same, with an exception for every reason: Declined, Full, or an AdapterBankError. Without ``base_model`` it is
        not compared."""
        ref = _reference(name)
        settings, bank, directories = self._opened()
        try:
            version = bank.find(name)
        except NotFoundError as error:
            raise Declined("unknown", error.message) from None
        if ref.version is None and ref.digest is None and not settings.aliases:
            raise Declined("mutable", f"names and aliases move: ask for {version.ref}, or set ADAPTERBANK_ALLOW_ALIASES=1")
        if base_model is not None and not bank.is_base_model(version.base_model, base_model):
            hint = f"adapterbank model alias {version.base_model} {base_model}"
            raise Declined("other_base_model", f"is for {version.base_model}, not {base_model}; if these are one: {hint}")
        plan = _plan(bank, version.ref, settings)
        return directories.lease(plan.key, plan.largest, lambda place: bank.write_directory(plan, place))

    def _opened(self) -> tuple[Settings, Bank, Directories]:
        """Everything is opened by the first request: a server's other processes load this code too."""
        from adapterbank.bank import Bank

        with self._lock:
            if self._open is None:
                settings = self._settings or Settings.from_environment(self.server)
                bank = Bank.open(settings.bank, readonly=True)
                self._open = settings, bank, Directories(settings.cache, settings.limit)
            return self._open

    def _count(self, outcome: str, message: str, level: int = logging.WARNING) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
        self._log.log(level, "adapterbank: %s", message)


class Declined(Exception):
    """Not resolved, for one of :data:`OUTCOMES`."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


def _reference(name: str) -> Ref:
    try:
        return Ref.parse(name)
    except UsageError as error:
        raise Declined("not_a_reference", error.message) from None


def _plan(bank: Bank, ref: str, settings: Settings) -> Planned:
    from adapterbank.ways.materialize import Order

    plan = bank.plan_directory(ref, Order(form=settings.form, server=settings.server))
    if settings.rank is not None and plan.marks["rank"] > settings.rank:
        raise Declined("unservable", f"rank {plan.marks['rank']} is above ADAPTERBANK_MAX_LORA_RANK={settings.rank}")
    return plan
