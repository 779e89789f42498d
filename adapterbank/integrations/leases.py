"""Who still needs which directory: one file for each server, locked by every process of it that can lock it.

The processes of a server share a name: the first that loads the plugin chooses it, those that it starts inherit it through the
environment, whoever starts them and whenever. Each keeps ``leases/NAME`` locked, shared, until it ends: the kernel drops a lock
with its process. The file lists the keys that the server was given. Processes that load no plugin lock nothing, so each line
also says by number and start which ones the asking process had started.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

from adapterbank.integrations.processes import any_lives, family
from adapterbank.locks import try_flock

VARIABLE = "ADAPTERBANK_LEASE"
LOG = logging.getLogger("vllm.adapterbank")  # vLLM shows what its own loggers say, and nobody else's
_NAME = re.compile(r"[0-9]{1,10}-[0-9a-f]{16}")


def shared_name() -> str:
    """The name of this process's server; chosen now, for all processes that are started from here, if there is none yet."""
    return os.environ.setdefault(VARIABLE, own_name())


def own_name() -> str:
    """The name that was inherited, else a new one."""
    name = os.environ.get(VARIABLE, "")
    return name if _NAME.fullmatch(name) else f"{os.getpid()}-{token_hex(8)}"


class Lease:
    """The lease ``name`` in ``folder``, which must exist when it is joined. Not for several threads at once."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._file: int | None = None
        self._noted: dict[str, dict[str, Any]] = {}

    def join(self) -> None:
        """Lock the file until this process ends, making it if it is not there (any more: keys are noted anew then)."""
        while not self._is_joined():
            if self._file is not None:
                os.close(self._file)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_SH)  # somebody who looks whether it is held is done at once
            for entry in self._noted.values():
                _append(self._file, entry)

    def add(self, key: str) -> None:
        """Note that this server needs ``key``, and which processes are there by now; nothing if that is noted."""
        self.join()
        assert self._file is not None
        entry = {"key": key, **family()}
        if self._noted.get(key) != entry:
            _append(self._file, entry)
            self._noted[key] = entry

    def _is_joined(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self.path))
        except FileNotFoundError:
            return False


def needed(folder: Path) -> frozenset[str] | None:
    """The keys of living servers; leases of dead ones are deleted. None if a living server's lease is damaged, or one cannot be
    read: then anything may be needed. That, and what is no lease at all, is logged and stops nobody."""
    found: set[str] = set()
    unknown = False
    for path in sorted(folder.iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode):
            LOG.warning("adapterbank: %s is no lease: it is left alone", path)
            continue
        try:
            entries, damaged, lives = _looked_at(path)
        except OSError as reason:  # another user's, who may have a server
            LOG.warning("adapterbank: the lease %s cannot be read: nothing is deleted while it is there: %s", path, reason)
            unknown = True
            continue
        found.update(entry["key"] for entry in entries if lives)
        unknown = unknown or (damaged and lives)
        if damaged:
            kept = "of a living server: nothing is deleted until it ends" if lives else "of no living server: it is deleted"
            LOG.warning("adapterbank: the lease %s is damaged, and %s", path, kept)
    return None if unknown else frozenset(found)


def _looked_at(path: Path) -> tuple[list[dict[str, Any]], bool, bool]:
    """The lines of a lease that can be read, whether there are others, and whether its server lives; else it is deleted."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        lines = path.read_bytes().splitlines()
        entries = list(_entries(lines))
        lives = not try_flock(file, exclusive=True) or any(any_lives(entry) for entry in entries)
        if not lives:
            path.unlink(missing_ok=True)  # while it is locked: who joins it now sees that it is gone
        return entries, len(entries) < len(lines), lives
    finally:
        os.close(file)


def _entries(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        match entry:
            case {"key": str(), "where": list(), "processes": list(processes)} if all(map(_is_process, processes)):
                yield entry


def _is_process(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(isinstance(number, int) for number in found)


def _append(file: int, entry: dict[str, Any]) -> None:
    """A line, whole or not at all. Raises OSError."""
    data, before = (json.dumps(entry) + "\n").encode(), os.fstat(file).st_size
    if os.write(file, data) != len(data):
        os.ftruncate(file, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
