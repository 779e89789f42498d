"""Every way a command can fail, translated in one place into a message, a code and an exit status."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any

import click

from adapterbank.cli.session import Session
from adapterbank.errors import AdapterBankError, StorageError, UsageError

INTERRUPTED = 130
_SHOWN = 20  # findings; --json has all of them


@dataclass(frozen=True, slots=True)
class Failure:
    """What is printed on stderr, and the exit status."""

    code: str
    message: str
    hint: str | None
    details: Any
    exit_code: int


def failure(error: Exception) -> Failure:
    """The failure that an exception means; ``unexpected`` if it is none of ours."""
    match error:
        case AdapterBankError():
            return Failure(error.code, error.message, error.hint, error.details, error.exit_code)
        case click.Abort():
            return Failure("interrupted", "interrupted", None, None, INTERRUPTED)
        case click.ClickException():
            hint = f"{error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else None
            return Failure(UsageError.code, error.format_message(), hint, None, UsageError.exit_code)
        case OSError():
            return Failure(StorageError.code, str(error), None, None, StorageError.exit_code)
    message = f"unexpected {type(error).__name__}: {error}"
    return Failure("unexpected", message, "run it again with --debug to see where", None, 1)


def report(error: Exception, session: Session) -> int:
    """Print the failure on stderr, as JSON if that was asked for; return its exit status."""
    if session.debug:
        traceback.print_exception(error, file=sys.stderr)
    if type(error).__name__ == "NoArgsIsHelpError" and isinstance(error, click.UsageError):
        error.show()  # click 8.2 and later: a group without a command shows its help
        return error.exit_code
    told = failure(error)
    if session.json or "--json" in session.arguments:
        body = {key: value for key, value in asdict(told).items() if key != "exit_code"}
        click.echo(json.dumps({"error": body}, default=str), err=True)
    else:
        click.echo(_for_people(told), err=True)
    return told.exit_code


def _for_people(told: Failure) -> str:
    """The message, its findings below it, each once: a message that lists them itself is cut to its first line."""
    details = told.details if isinstance(told.details, list | tuple) else []
    message = told.message.partition("\n")[0] if details else told.message
    lines = [f"Error: {message}", *(f"  {_finding(item)}" for item in details[:_SHOWN])]
    if len(details) > _SHOWN:
        lines.append(f"  … and {len(details) - _SHOWN} more; --json has all of them")
    return "\n".join([*lines, *([f"Try: {told.hint}"] if told.hint else [])])


def _finding(item: Any) -> str:
    """One line for one entry of an error's details: a problem, a dependent, or plain text."""
    match item:
        case {"code": code, "message": message, **rest}:
            where, severity = rest.get("where"), rest.get("severity", "error")
            before = "" if severity == "error" else f"{severity}: "  # told beside the problems, and not counted as one
            return f"{before}[{code}] {message}" + (f" ({where})" if where and where not in message else "")
        case {"dependent": dependent, "needed": needed, "kind": kind}:
            return f"{dependent} needs {needed} ({kind})"
    return str(item)
