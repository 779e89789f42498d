"""From a model name in a request to a directory that the server can read, or to None with a reason in the log."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import platformdirs

from adapterbank.errors import AdapterBankError, NotFoundError, UsageError
from adapterbank.integrations import counts
from adapterbank.integrations.directories import Directories, Full
from adapterbank.refs import Ref
from adapterbank.units import size

if TYPE_CHECKING:
    from adapterbank.bank import Bank
    from adapterbank.ways.materialize import Planned

LOG = logging.getLogger("adapterbank.resolver")
OUTCOMES = ("resolved", "not_a_reference", "unknown", "mutable", "other_base_model", "unservable", "full", "failed")
FORMS = ("auto", "exact", "bounded")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_PLAIN = re.compile(r"[A-Za-z0-9@:._-]+")
_DIGITS = 64  # of a whole digest
_NAME_SHOWN, _LINE_SHOWN = 160, 600  # characters of a client's name, and of a line in the log


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
        given = {name: value for name, value in environment.items() if value.strip()}
        default = platformdirs.user_cache_path("adapterbank", appauthor=False) / server
        return cls(
            given.get("ADAPTERBANK"),
            Path(given.get("ADAPTERBANK_CACHE") or default).absolute(),
            size(given.get("ADAPTERBANK_CACHE_BYTES", "16GiB"), "ADAPTERBANK_CACHE_BYTES"),
            server,
            _rank(given.get("ADAPTERBANK_MAX_LORA_RANK")),
            _one_of(given.get("ADAPTERBANK_FORM", "auto"), "ADAPTERBANK_FORM", FORMS),
            _one_of(given.get("ADAPTERBANK_ALLOW_ALIASES", "0").lower(), "ADAPTERBANK_ALLOW_ALIASES", _YES + _NO) in _YES,
        )


def _one_of(value: str, variable: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{variable} is {value[:40]!r}: expected one of {', '.join(allowed)}")
    return value


def _rank(value: str | None) -> int | None:
    if value is not None and not (value.isascii() and value.isdecimal() and 0 < len(value) < 7 and int(value)):
        raise UsageError(f"ADAPTERBANK_MAX_LORA_RANK is {value[:40]!r}: expected a number such as 16")
    return None if value is None else int(value)


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
        except Exception as error:  # it would reach the client, and keep other resolvers from being asked
            self.decline(name, error)
            return None
        self._count("resolved", f"{_shown(name)} is served from {path}", logging.INFO)
        return path

    def decline(self, name: str, error: Exception) -> None:
        """Log and count why ``name`` is not served."""
        match error:
            case Declined():
                self._count(error.outcome, f"{_shown(name)}: {error}")
            case Full():
                declined = self.outcomes["full"] + 1
                self._count("full", f"{_shown(name)}: {error} (declined at the cap since the start: {declined})")
            case AdapterBankError():
                hint = f" ({error.hint})" if error.hint else ""
                self._count("unservable", f"{_shown(name)}: {error.message}{hint}")
            case _:
                self._count("failed", f"{_shown(name)}: {type(error).__name__}: {error}", logging.ERROR)

    def directory(self, base_model: str | None, name: str) -> Path:
        """The same, with an exception for every reason: Declined, Full, or an AdapterBankError. Without ``base_model`` it is
        not compared."""
        ref = _reference(name)
        settings, bank, directories = self._opened()
        try:
            version = bank.find(name)
        except NotFoundError as error:
            raise Declined("unknown", error.message) from None
        if not settings.aliases:
            _check_immutable(ref, version.ref, version.files)
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
                directories = Directories(settings.cache, settings.limit)
                directories.join()
                self._open = settings, bank, directories
            return self._open

    def _count(self, outcome: str, message: str, level: int = logging.WARNING) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if self._open is not None:
                directories = self._open[2]
                told = {each: self.outcomes[each] for each in OUTCOMES}
                counts.write(directories.metrics, directories.lease_name, told)
        self._log.log(level, "adapterbank: %s", _line(message))


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


def _check_immutable(ref: Ref, exact: str, files: str) -> None:
    """Only ``name@3`` and a whole digest mean the same for ever: another adapter's digest may begin alike."""
    if ref.digest is not None and len(ref.digest) < _DIGITS:
        whole = f"{exact} or sha256:{files}"
        raise Declined("mutable", f"the beginning of a digest may come to mean another adapter: ask for {whole}")
    if ref.version is None and ref.digest is None:
        raise Declined("mutable", f"names and aliases move: ask for {exact}, or set ADAPTERBANK_ALLOW_ALIASES=1")


def _shown(name: str) -> str:
    """A client's text where a reader sees its ends: quoted unless it is a plain reference, and cut."""
    cut = name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…"
    return cut if _PLAIN.fullmatch(cut) else repr(cut)


def _line(message: str) -> str:
    """One line of the log, whatever a client sent."""
    cut = message if len(message) <= _LINE_SHOWN else f"{message[:_LINE_SHOWN]}…"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)


def _plan(bank: Bank, ref: str, settings: Settings) -> Planned:
    from adapterbank.ways.materialize import Order

    plan = bank.plan_directory(ref, Order(form=settings.form, server=settings.server))
    if settings.rank is not None and plan.marks["rank"] > settings.rank:
        raise Declined("unservable", f"rank {plan.marks['rank']} is above ADAPTERBANK_MAX_LORA_RANK={settings.rank}")
    return plan
