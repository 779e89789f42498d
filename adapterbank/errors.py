"""Every error adapterbank raises: one tree, each class also a fitting builtin.

A message says what, which, got and expected; ``hint`` is the next command to run. The command line
turns ``exit_code`` into its exit status and ``code`` into the ``"code"`` of its JSON error, in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about an input: a stable ``code``, what is wrong, and where (a tensor, a module, a file)."""

    code: str
    message: str
    where: str | None = None
    severity: str = "error"  # "error" refuses the input; "warning" and "note" are only told


class AdapterBankError(Exception):
    """Base of all errors of this package."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(AdapterBankError, ValueError):
    """An argument or a combination of options makes no sense."""

    code, exit_code = "usage", 2


class NotFoundError(AdapterBankError, LookupError):
    """A reference, bank, basis, object or file does not exist."""

    code, exit_code = "not_found", 3


class ConflictError(AdapterBankError, ValueError):
    """The state is not the one expected: a lost compare-and-swap, a taken name, equal content in other bytes."""

    code, exit_code = "conflict", 4


class IntegrityError(AdapterBankError, OSError):
    """Stored bytes or a stored row are not what their digest says."""

    code, exit_code = "integrity", 5


class BusyError(AdapterBankError, TimeoutError):
    """Another process holds the lock for longer than we wait."""

    code, exit_code = "busy", 6


class RefusedInputError(AdapterBankError, ValueError):
    """An adapter directory is malformed, unsafe or of an unsupported kind; ``problems`` lists every finding."""

    code, exit_code = "refused_input", 7

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, details=[asdict(p) for p in problems])
        self.problems = tuple(problems)


class SchemaError(AdapterBankError, RuntimeError):
    """The database is older or newer than this code."""

    code, exit_code = "schema", 8


class StorageError(AdapterBankError, OSError):
    """The disk is full, read-only or failing."""

    code, exit_code = "storage", 9


class BoundedOnlyError(AdapterBankError, LookupError):
    """The exact bytes were dropped by ``compact``; only a form with a stated error is kept."""

    code, exit_code = "bounded_only", 10


class InUseError(AdapterBankError, ValueError):
    """Something else needs what was to be removed; ``details`` lists the dependents."""

    code, exit_code = "in_use", 11


class IncompatibleError(AdapterBankError, ValueError):
    """Adapters that cannot be joined: other base models, other shapes, too few modules in common."""

    code, exit_code = "incompatible", 12


class PlatformError(AdapterBankError, OSError):
    """Not on this machine: a bank on a network file system or in an unsupported database, a device that is not there."""

    code, exit_code = "platform", 13


class ErrorBoundError(AdapterBankError, ValueError):
    """A stored form would have a larger error than the bound asked for."""

    code, exit_code = "error_bound", 14


class MissingExtraError(AdapterBankError, ImportError):
    """An optional dependency is not installed; the hint has the pip line."""

    code, exit_code = "missing_extra", 15


class ServerError(AdapterBankError, OSError):
    """A running inference server refused, or could not be reached."""

    code, exit_code = "server", 16
