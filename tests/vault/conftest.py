"""A fresh vault for each test, and ways around it: damage a file, run something in a child process."""

import os
from collections.abc import Callable
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


def wait(pid: int) -> int:
    """Exit status of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
