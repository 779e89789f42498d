"""Staged files: every way of filling one gives the same object, and none of them stays."""

import errno
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterbank.errors import RefusedInputError, UsageError
from adapterbank.vault import Litter, Vault, durable
from tests.vault.conftest import grow_old, kill, living

DATA = random.Random(3).randbytes(3_000_001)
DIGEST = hashlib.sha256(DATA).hexdigest()


class OtherOs:
    """``os`` with some functions replaced."""

    def __init__(self, **replaced):
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(os, name)


def refuse(number: int):
    def call(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("number", [None, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_copy_is_equal_with_and_without_help_of_the_kernel(vault: Vault, source: Path, monkeypatch, number: int | None):
    if number is not None:
        monkeypatch.setattr(durable, "os", OtherOs(copy_file_range=refuse(number)))
    with source.open("rb") as file, vault.stage() as staged:
        file.seek(17)
        assert staged.copy_from(file) == len(DATA) == staged.size
        assert file.tell() == 17
        assert staged.digest() == DIGEST
        assert vault.keep(staged, DIGEST).digest == DIGEST
    assert vault.read(DIGEST) == DATA


def test_a_copy_that_the_kernel_leaves_half_done_is_finished(vault: Vault, source: Path, monkeypatch):
    calls = []

    def half(source_fd, target_fd, count, offset_src):
        calls.append(count)
        return os.copy_file_range(source_fd, target_fd, 1_000_003, offset_src=offset_src) if len(calls) == 1 else 0

    monkeypatch.setattr(durable, "os", OtherOs(copy_file_range=half))
    with source.open("rb") as file, vault.stage() as staged:
        staged.copy_from(file.fileno())
        assert staged.digest() == DIGEST
    assert calls == [len(DATA), len(DATA) - 1_000_003]


def test_short_writes_are_continued(vault: Vault, monkeypatch):
    monkeypatch.setattr(durable, "os", OtherOs(write=lambda fd, data: os.write(fd, bytes(data[:997]))))
    assert vault.put_bytes(DATA[:20_000]).digest == hashlib.sha256(DATA[:20_000]).hexdigest()


def test_a_part_is_copied_and_a_source_that_shrank_is_refused(vault: Vault, source: Path):
    with source.open("rb") as file, vault.stage() as staged:
        assert staged.copy_from(file, 1000) == 1000
        staged.write(b"end")
        assert vault.read(vault.keep(staged).digest) == DATA[:1000] + b"end"
    with (
        source.open("rb") as file,
        vault.stage() as staged,
        pytest.raises(RefusedInputError, match="changed while it was read"),
    ):
        staged.copy_from(file, len(DATA) + 1)


NO_FALLOCATE = pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP], ids=["fallocate", "zeros"])


@NO_FALLOCATE
def test_a_mapping_is_written_and_kept(vault: Vault, monkeypatch, number: int | None):
    if number is not None:
        monkeypatch.setattr(durable, "os", OtherOs(posix_fallocate=refuse(number)))
    with vault.stage() as staged:
        mapping = staged.map(len(DATA))
        assert staged.size == len(DATA)
        assert mapping[:] == bytes(len(DATA))
        mapping[:] = DATA
        with staged.view() as seen:
            assert bytes(seen.buffer) == DATA
        assert vault.keep(staged).digest == DIGEST
    assert vault.read(DIGEST) == DATA


def test_a_mapping_needs_a_byte(vault: Vault):
    with vault.stage() as staged, pytest.raises(UsageError, match="at least 1"):
        staged.map(0)


@NO_FALLOCATE
def test_space_asked_for_is_allocated_at_once(vault: Vault, monkeypatch, number: int | None):
    if number is not None:
        monkeypatch.setattr(durable, "os", OtherOs(posix_fallocate=refuse(number)))
    with vault.stage(200_000) as staged:
        assert staged.size == 200_000
        assert staged.path.stat().st_blocks * 512 >= 200_000
        staged.write(DATA[:200_000])
        assert vault.read(vault.keep(staged).digest) == DATA[:200_000]


def test_staged_files_go_whatever_happens(vault: Vault):
    with pytest.raises(ZeroDivisionError), vault.stage() as staged:
        staged.map(100)
        raise ZeroDivisionError
    with vault.stage() as kept:
        kept.write(b"adapter")
        vault.keep(kept)
    with vault.stage() as view_alive:
        view = memoryview(view_alive.map(100))
    assert len(view) == 100
    assert list(vault.staging.iterdir()) == []


def test_staged_files_are_private_and_unique(vault: Vault):
    with vault.stage() as one, vault.stage() as other:
        assert one.path != other.path
        assert one.path.stat().st_mode & 0o777 == 0o600


def test_a_sweep_takes_what_a_killed_writer_left_and_nothing_else(vault: Vault):
    def work(stay: Callable[[str], None]) -> None:
        with vault.stage() as staged:
            staged.write(b"half an ada")
            stay(staged.path.name)

    with living(work) as (child, name), vault.stage() as mine:
        grow_old(vault.staging / name)
        grow_old(mine.path)
        assert vault.sweep_staging(60) == []  # both writers live
        kill(child)
        assert vault.sweep_staging(20_000) == []  # too young
        assert vault.sweep_staging(60, dry_run=True) == [Litter(name, 11)]
        assert vault.sweep_staging(60) == [Litter(name, 11)]
        assert list(vault.staging.iterdir()) == [mine.path]


def test_a_file_that_was_just_made_is_never_swept(vault: Vault):
    (vault.staging / "1-a.tmp").write_bytes(b"its writer has not locked it yet")
    assert vault.sweep_staging(0) == []


def test_a_sweep_leaves_links_and_folders(vault: Vault, source: Path):
    (vault.staging / "link").symlink_to(source)
    (vault.staging / "folder").mkdir()
    grow_old(vault.staging / "folder")
    grow_old(source)
    assert vault.sweep_staging(60) == []
    assert source.exists()
