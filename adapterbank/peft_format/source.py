"""Open the two files of a PEFT directory: regular files only, no links, nothing else in it read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from adapterbank.errors import NotFoundError, Problem, StorageError
from adapterbank.peft_format.config import CONFIG_BYTES
from adapterbank.peft_format.foreign import CONFIG, WEIGHTS, by_files
from adapterbank.peft_format.refusal import refusal

WEIGHTS_BYTES = 64 << 30
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a pipe must not make us wait
_NESTED_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Source:
    """An opened directory: ``config`` bytes, ``weights`` open for reading at 0 (``with`` closes it), ``weights_size`` in
    bytes, and the names of the files and folders (``default/``) beside them, which are not kept."""

    config: bytes
    weights: BinaryIO
    weights_size: int
    not_kept: tuple[str, ...]

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.weights.close()


def open_directory(path: Path) -> Source:
    """Open ``path``; NotFoundError if it does not exist, RefusedInputError if it is no plain PEFT directory."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist", hint="name a folder with an adapter_config.json") from None
    except NotADirectoryError:
        problem = by_files({Path(path).name}, ()) or Problem("not_a_directory", f"{path} is a file, expected a PEFT directory")
        raise refusal([problem]) from None
    except OSError as reason:
        raise StorageError(f"{path} cannot be read: {reason.strerror}") from None
    try:
        return _open_files(folder)
    finally:
        os.close(folder)


def _open_files(folder: int) -> Source:
    entries = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(folder)}
    missing = [name for name in (CONFIG, WEIGHTS) if name not in entries]
    if missing:
        raise refusal(_missing(folder, entries, missing))
    config, config_problem = _regular(folder, CONFIG, CONFIG_BYTES, "config_too_large")
    weights, weights_problem = _regular(folder, WEIGHTS, WEIGHTS_BYTES, "weights_too_large")
    if config is None or weights is None:
        for file in (config, weights):
            if file is not None:
                file.close()
        raise refusal([problem for problem in (config_problem, weights_problem) if problem is not None])
    with config:
        text = config.read(CONFIG_BYTES + 1)
    others = sorted(f"{name}/" if is_dir else name for name, is_dir in entries.items() if name not in (CONFIG, WEIGHTS))
    return Source(text, weights, os.fstat(weights.fileno()).st_size, tuple(others))


def _missing(folder: int, entries: dict[str, bool], missing: Collection[str]) -> list[Problem]:
    """The problems of a directory that lacks one of the two files: a foreign format by name, and what is missing."""
    folders = [name for name, is_dir in entries.items() if is_dir][:_NESTED_LOOKED_AT]
    known = by_files({name for name, is_dir in entries.items() if not is_dir}, [n for n in folders if _has_config(folder, n)])
    codes = {CONFIG: "no_config", WEIGHTS: "no_weights"}
    problems = [Problem(codes[name], f"there is no {name}", name) for name in missing]
    return problems if known is None else [known, *problems]


def _has_config(folder: int, name: str) -> bool:
    try:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        os.stat(CONFIG, dir_fd=inner, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(inner)
    return True


def _regular(folder: int, name: str, limit: int, code: str) -> tuple[BinaryIO | None, Problem | None]:
    """``name`` opened for reading if it is a regular file of at most ``limit`` bytes, else the problem with it."""
    try:
        fd = os.open(name, _OPEN, dir_fd=folder)
    except OSError as reason:
        if reason.errno in (errno.ELOOP, errno.EMLINK):
            return None, Problem("symlink", f"{name} is a symbolic link; copy the directory with `cp -rL` first", name)
        if reason.errno == errno.ENXIO:
            return None, Problem("not_a_file", f"{name} is not a regular file", name)
        raise StorageError(f"{name} cannot be read: {reason.strerror}") from None
    status = os.fstat(fd)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = Problem("not_a_file", f"{name} is not a regular file", name)
    elif status.st_size > limit:
        problem = Problem(code, f"{name} has {status.st_size} bytes, at most {limit} are read", name)
    if problem is not None:
        os.close(fd)
        return None, problem
    return os.fdopen(fd, "rb"), None
