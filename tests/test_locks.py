"""Locks between threads and processes."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from adapterbank.errors import BusyError, StorageError
from adapterbank.locks import hold, is_held_exclusively
from tests.vault.conftest import fork, kill, living, open_files, wait


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
    def work(stay: Callable[[str], None]) -> None:
        with hold(lock, exclusive=True, timeout=0):
            stay("held")

    with living(work) as (child, _):
        assert is_held_exclusively(lock)
        kill(child)
        with hold(lock, exclusive=True, timeout=0):
            pass


def test_a_forked_child_does_not_release_its_parents_lock(lock: Path):
    held = hold(lock, exclusive=True, timeout=0)
    held.__enter__()
    assert wait(fork(lambda: bool(held.__exit__(None, None, None)))) == 0
    assert is_held_exclusively(lock)
    held.__exit__(None, None, None)


def test_a_forked_child_does_not_keep_its_parents_lock(lock: Path):
    held = hold(lock, exclusive=True, timeout=0)
    held.__enter__()
    with living(lambda stay: stay("alive with a copy of the descriptor")):
        held.__exit__(None, None, None)
        with hold(lock, exclusive=True, timeout=0):
            pass


def test_no_descriptor_stays_open(lock: Path):
    before = open_files()
    for exclusive in (False, True):
        with hold(lock, exclusive=exclusive, timeout=0), suppress(BusyError), hold(lock, exclusive=True, timeout=0):
            pytest.fail("held twice")
        is_held_exclusively(lock)
    assert open_files() == before


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
