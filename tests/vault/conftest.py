"""A fresh vault for each test, and ways around it: damage a file, run something in a child process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from adapterbank.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "bank")


def damage(path: Path, data: bytes) -> None:
    """Overwrite an object behind the vault's back."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def open_files() -> set[str]:
    """The descriptors of this process."""
    return {path.name for path in Path("/dev/fd").iterdir()}


def grow_old(path: Path, seconds: float = 10_000) -> None:
    """Set the file's time back."""
    status = path.stat()
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a child that never comes back into the test; its status is 0 if ``work`` returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


@contextmanager
def living(work: Callable[[Callable[[str], None]], None]) -> Iterator[tuple[int, str]]:
    """A child in the middle of ``work(stay)``: its pid, and the text with which it called ``stay``, which never returns."""
    reading, writing = os.pipe()

    def stay(text: str) -> None:
        os.write(writing, text.encode())
        signal.pause()

    pid = fork(lambda: work(stay))
    os.close(writing)
    try:
        yield pid, os.read(reading, 1000).decode()
    finally:
        os.close(reading)
        kill(pid)


def kill(pid: int) -> None:
    """SIGKILL a child and wait for its end; nothing happens if it has ended."""
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def wait(pid: int) -> int:
    """Exit status of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
