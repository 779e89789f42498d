"""Every call that writes to the disk fails once, and in another run kills the process: nothing wrong is ever visible."""

import errno
import os
import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterbank.errors import StorageError
from adapterbank.vault import Stored, Vault, durable
from tests.vault.conftest import damage, fork, grow_old, wait

CALLS = {"open", "mkdir", "write", "posix_fallocate", "copy_file_range", "fchmod", "fsync", "link", "replace"}
DATA = random.Random(1).randbytes(50_000)


class CountingOs:
    """``os`` that does ``fail`` instead of its N-th writing call, counted from 1."""

    def __init__(self, at: int, fail: Callable[[], None]):
        self.at, self.fail, self.seen = at, fail, []

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.counted(name, real) if name in CALLS else real

    def counted(self, name, real):
        def call(*args, **kwargs):
            self.seen.append(name)
            if len(self.seen) == self.at:
                self.fail()
            return real(*args, **kwargs)

        return call


def put(vault: Vault, source: Path) -> Stored:
    return vault.put_bytes(DATA)


def copy(vault: Vault, source: Path) -> Stored:
    with source.open("rb") as file, vault.stage() as staged:
        staged.copy_from(file)
        return vault.keep(staged, staged.digest())


def fill_mapping(vault: Vault, source: Path) -> Stored:
    with vault.stage() as staged:
        staged.map(len(DATA))[:] = DATA
        return vault.keep(staged)


WAYS = {
    put: ["open", "write", "fchmod", "fsync", "mkdir", "open", "fsync", "link", "open", "fsync"],
    copy: ["open", "copy_file_range", "fchmod", "fsync", "mkdir", "open", "fsync", "link", "open", "fsync"],
    fill_mapping: ["open", "posix_fallocate", "fchmod", "fsync", "mkdir", "open", "fsync", "link", "open", "fsync"],
}
REPAIR = ["open", "write", "fchmod", "fsync", "mkdir", "link", "replace", "open", "fsync"]
AGAIN = ["open", "fsync", "open", "fsync"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=[errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def failure(request) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(request.param, os.strerror(request.param))

    return fail


def assert_fails_cleanly(vault: Vault, work: Callable[[], Stored], expected: list[str], fail, monkeypatch, reset) -> None:
    """Fail at call 1, 2, 3 … until the work is untouched; ``expected`` are its calls, in order."""
    for at in range(1, len(expected) + 2):
        reset()
        shim = CountingOs(at, fail)
        with monkeypatch.context() as patched:
            patched.setattr(durable, "os", shim)
            if at <= len(expected):
                with pytest.raises(StorageError) as caught:
                    work()
                assert caught.value.hint
                assert isinstance(caught.value.__cause__, OSError)
            else:
                work()
        assert shim.seen[:at] == expected[:at]
        assert list(vault.staging.iterdir()) == []
        assert_right_or_absent(vault)
        stored = work()
        assert vault.read(stored.digest) == DATA


def assert_right_or_absent(vault: Vault) -> None:
    for digest in vault.digests():
        problem = vault.check(digest)
        assert problem is None or vault.path(digest).read_bytes() == b"rotten"  # as it was before


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_failing_call_is_a_storage_error_and_leaves_nothing(vault: Vault, source: Path, failure, monkeypatch, way):
    def reset() -> None:
        for path in list(vault.objects.rglob("*")):
            if path.is_file():
                path.unlink()
                path.parent.rmdir()

    assert_fails_cleanly(vault, lambda: way(vault, source), WAYS[way], failure, monkeypatch, reset)


def test_each_failing_call_of_a_repair(vault: Vault, source: Path, failure, monkeypatch):
    path = vault.path(vault.put_bytes(DATA).digest)
    assert_fails_cleanly(vault, lambda: put(vault, source), REPAIR, failure, monkeypatch, lambda: damage(path, b"rotten"))


def test_each_failing_call_where_the_object_is_there_already(vault: Vault, source: Path, failure, monkeypatch):
    vault.put_bytes(DATA)
    assert_fails_cleanly(vault, lambda: put(vault, source), AGAIN, failure, monkeypatch, lambda: None)


def test_each_failing_call_of_a_new_bank(tmp_path: Path, failure, monkeypatch):
    for at in range(1, 1000):
        root = tmp_path / str(at)
        shim = CountingOs(at, failure)
        with monkeypatch.context() as patched:
            patched.setattr(durable, "os", shim)
            if at <= 16:
                with pytest.raises(StorageError):
                    Vault.create(root)
            else:
                Vault.create(root)
        assert Vault.create(root).put_bytes(DATA).size == len(DATA)
        if len(shim.seen) < at:
            break
    assert at == 17


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_kill_at_each_call_leaves_at_most_litter(vault: Vault, source: Path, way, after: bool):
    expected = len(WAYS[way])
    for at in range(1, expected + 1):
        root = vault.root.parent / f"{at}"
        bank = Vault.create(root)

        def work(bank: Vault = bank, at: int = at) -> None:
            durable.os = CountingOs(at + after, lambda: os.kill(os.getpid(), signal.SIGKILL))
            way(bank, source)

        status = wait(fork(work))
        assert status == (0 if at + after > expected else -signal.SIGKILL)
        assert all(bank.check(digest) is None for digest in bank.digests())
        for path in bank.staging.iterdir():
            grow_old(path)
        litter = bank.sweep_staging(60)
        assert list(bank.staging.iterdir()) == []
        assert len(litter) <= 1
        assert bank.read(way(bank, source).digest) == DATA


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_file_size_limit_is_told(vault: Vault, source: Path, way):
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) - 1, len(DATA) - 1))
        with pytest.raises(StorageError, match="ulimit -f"):
            way(vault, source)

    assert wait(fork(work)) == 0
    assert [path for path in vault.root.rglob("*") if path.is_file()] == []


def test_after_a_failed_fsync_the_file_is_lost(vault: Vault, monkeypatch):
    """The kernel reports a lost page once: the second fsync would succeed without the bytes being on the disk."""

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with vault.stage() as staged:
        staged.write(DATA)
        with monkeypatch.context() as patched:
            patched.setattr(durable, "os", CountingOs(2, fail))  # fchmod, fsync
            with pytest.raises(StorageError):
                vault.keep(staged)
        with pytest.raises(StorageError):
            vault.keep(staged)
    assert list(vault.digests()) == []


def test_without_hard_links_the_file_is_renamed(vault: Vault, source: Path, monkeypatch):
    def fail() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    shim = CountingOs(WAYS[put].index("link") + 1, fail)
    monkeypatch.setattr(durable, "os", shim)
    assert not put(vault, source).existed
    assert shim.seen.count("replace") == 1
    assert vault.path(put(vault, source).digest).stat().st_nlink == 1
    assert list(vault.staging.iterdir()) == []
