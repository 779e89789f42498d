"""``FILE.py:FUNCTION``: a function of the user's own, for what no option can say: a model with data, a way to judge a merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterbank.errors import AdapterBankError, NotFoundError, UsageError

if TYPE_CHECKING:
    _Word = click.ParamType[Any]
else:
    _Word = click.ParamType

Function = Callable[..., Any]


class Hook(_Word):
    """``FILE.py:FUNCTION``; the file is run when the function is called first, and once."""

    name = "FILE.py:FUNCTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Function:
        if callable(value):
            return value  # type: ignore[no-any-return]
        path, colon, name = value.rpartition(":")
        if not colon or not path or not name.isidentifier():
            self.fail(f"{value!r}: expected {self.name}", param, ctx)
        load = cache(lambda: _loaded(Path(path), name))
        return lambda *arguments: _called(load(), arguments, value)


def _loaded(path: Path, name: str) -> Function:
    """The function ``name`` of a file. Raises NotFoundError, UsageError."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NotFoundError(f"no Python file {path}", hint="expected FILE.py:FUNCTION")
    module = module_from_spec(spec)
    _told(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UsageError(f"{path} has no function {name!r}", hint=f"it has: {known}" if known else None)
    return function  # type: ignore[no-any-return]


def _called(function: Function, arguments: tuple[Any, ...], where: str) -> Any:
    return _told(lambda: function(*arguments), where)


def _told(call: Callable[[], Any], where: str) -> Any:
    """What ``call`` returns; an error in the user's own code is told with its place."""
    try:
        return call()
    except AdapterBankError:
        raise
    except Exception as error:
        raise UsageError(f"{where} raised {type(error).__name__}: {error}", hint="run it again with --debug") from error


HELD_OUT = 16


def with_data(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--with FILE.py:FUNCTION``: ``FUNCTION(refs)`` returns an ``adapterbank.calibration.tasks.Setting``; ``--held-out``."""
    help_ = "By how many batches of each task that FUNCTION holds out the result is judged, at most; 0: it is not."
    count: dict[str, Any] = {"type": click.IntRange(min=0), "default": HELD_OUT, "show_default": True, "metavar": "N"}
    function = click.option("--held-out", help=help_, **count)(function)
    help_ = "FUNCTION(refs) returns a model and a task for each reference: what the method needs is learned from them."
    return click.option("--with", "setting", type=Hook(), help=help_)(function)


def setting_of(hook: Function | None, refs: Sequence[str]) -> Any:
    """What the user's function says of these versions; None where no function was given."""
    if hook is None:
        return None
    found = hook(list(refs))
    if found is None:
        raise UsageError("the function of --with returned nothing, expected adapterbank.calibration.tasks.Setting")
    return found


def evaluation(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--evaluate FILE.py:FUNCTION``: ``FUNCTION(directory, refs)`` returns a score by task."""
    help_ = "FUNCTION(directory, refs) returns a score by task of the merge in this PEFT directory."
    return click.option("--evaluate", type=Hook(), help=help_)(function)
