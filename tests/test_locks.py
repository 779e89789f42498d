"""Locks between threads and processes."""

import os
import signal
from pathlib import Path

import pytest

from adapterbank.errors import BusyError, StorageError
from adapterbank.locks import hold, is_held_exclusively
from tests.vault.conftest import fork, wait


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "catalog.lock"


@pytest.mark.parametrize(
    ("first", "second", "together"), [(False, False, True), (False, True, False), (True, False, False), (True, True, False)]
)
def test_only_shared_locks_are_held_together(lock: Path, first: bool, second: bool, together: bool):
    with hold(lock, exclusive=first, timeout=0):
        if together:
            with hold(lock, exclusive=second, timeout=0):
                pass
        else:
            with (
                pytest.raises(BusyError, match=r"catalog\.lock.*within 0 s") as caught,
                hold(lock, exclusive=second, timeout=0),
            ):
                pytest.fail("held twice")
            assert caught.value.hint
        assert is_held_exclusively(lock) == first
    with hold(lock, exclusive=True, timeout=0):
        assert is_held_exclusively(lock)
    assert not is_held_exclusively(lock)


def test_an_error_in_the_block_releases_and_passes_unchanged(lock: Path):
    with pytest.raises(FileNotFoundError), hold(lock, exclusive=True, timeout=0):
        raise FileNotFoundError
    with hold(lock, exclusive=True, timeout=0):
        pass


def test_a_killed_holder_releases(lock: Path):
    reading, writing = os.pipe()

    def work() -> None:
        with hold(lock, exclusive=True, timeout=0):
            os.write(writing, b"x")
            signal.pause()

    child = fork(work)
    os.read(reading, 1)
    assert is_held_exclusively(lock)
    os.kill(child, signal.SIGKILL)
    wait(child)
    with hold(lock, exclusive=True, timeout=0):
        pass
    os.close(reading)
    os.close(writing)


def test_a_forked_child_neither_releases_nor_keeps_its_parents_lock(lock: Path):
    reading, writing = os.pipe()
    held = hold(lock, exclusive=True, timeout=0)
    held.__enter__()

    def leave() -> None:
        held.__exit__(None, None, None)

    assert wait(fork(leave)) == 0
    assert is_held_exclusively(lock)
    child = fork(lambda: bool(os.read(reading, 1)) and None)  # lives on with a copy of the descriptor
    held.__exit__(None, None, None)
    with hold(lock, exclusive=True, timeout=0):
        pass
    os.write(writing, b"x")
    assert wait(child) == 0
    os.close(reading)
    os.close(writing)


def test_nothing_is_created_where_nothing_may_be_written(lock: Path):
    with pytest.raises(StorageError, match=r"catalog\.lock"), hold(lock, exclusive=False, timeout=0, create=False):
        pytest.fail("held a file that is not there")
    assert not lock.exists()
    assert not is_held_exclusively(lock)
    assert not lock.exists()


def test_a_link_is_not_followed(lock: Path):
    lock.symlink_to(lock.with_name("elsewhere"))
    with pytest.raises(StorageError, match=r"catalog\.lock"), hold(lock, exclusive=True, timeout=0):
        pytest.fail("locked through a link")
