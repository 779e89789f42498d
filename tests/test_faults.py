"""A disk that fails: each write, fsync, rename and link of one ``register`` fails once. Exit code 9, and nothing is wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from adapterbank import Bank
from adapterbank.errors import StorageError
from adapterbank.vault import durable
from tests.adapters import write_adapter
from tests.faulty import WHEN, in_child
from tests.vault.conftest import grow_old
from tests.vault.test_faults import CountingOs

ROOT = Path(__file__).resolve().parents[1]
FILES = ("adapter_config.json", "adapter_model.safetensors")
CALLS = ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "fchmod", "copy_file_range", "mkdir", "link", "unlink"]
FORGIVEN = {"unlink"}  # a temporary file that cannot be removed is litter for the next sweep


def traceable() -> str | None:
    """None if strace can let system calls fail here, else why not."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = ["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "-e", "inject=fsync:error=EIO:when=1", "true"]
    ran = subprocess.run(probe, capture_output=True, text=True, check=False)
    return None if ran.returncode == 0 else f"strace cannot be used here: {ran.stderr.strip()[-80:]}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("in") / "new", seed=1, rank=3, alpha=6)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank that holds one adapter."""
    place = tmp_path_factory.mktemp("template")
    with Bank.open(place / "bank", create=True) as bank:
        bank.register(write_adapter(place / "old"), name="old")
    return place / "bank"


def assert_well(place: Path, source: Path, *, acknowledged: bool) -> None:
    """Old and acknowledged versions are there, no row lacks its objects, litter can be swept, and the second try works."""
    with Bank.open(place) as bank:
        refs = {version.ref for version in bank.versions()}
        assert refs == {"old@1", "new@1"} if acknowledged else {"old@1"} <= refs <= {"old@1", "new@1"}
        assert bank.verify().problems == ()
        for path in (place / "staging").iterdir():
            grow_old(path)
        bank.gc(grace=3600)
        assert list((place / "staging").iterdir()) == []
        assert bank.register(source, name="new").status == ("unchanged" if "new@1" in refs else "registered")
        bank.export("new@1", place / "exported")
    assert all((place / "exported" / name).read_bytes() == (source / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_each_failing_call_of_the_vault(template: Path, source: Path, tmp_path: Path, error: int) -> None:
    def fail() -> None:
        raise OSError(error, os.strerror(error))

    seen: list[str] = []
    for at in range(1, 100):
        place = Path(shutil.copytree(template, tmp_path / str(at)))
        shim = CountingOs(at, fail)
        with Bank.open(place) as bank, pytest.MonkeyPatch.context() as patched:
            patched.setattr(durable, "os", shim)
            seen = shim.seen
            try:
                bank.register(source, name="new")
            except StorageError as told:
                assert told.exit_code == 9 and told.hint and isinstance(told.__cause__, OSError)
                assert [version.ref for version in bank.versions()] == ["old@1"]
            else:
                assert len(seen) < at, f"{seen[at - 1]} failed and register did not notice"
        assert list((place / "staging").iterdir()) == []
        assert_well(place, source, acknowledged=len(seen) < at)
        if len(seen) < at:
            break
    assert {"open", "write", "copy_file_range", "fchmod", "fsync", "mkdir", "link"} <= set(seen)
    assert seen.count("link") == 2 and seen.count("fsync") >= 6  # two objects: their bytes, their folders, the folders' names


def test_the_bytes_are_on_the_disk_before_the_row(template: Path, source: Path, tmp_path: Path) -> None:
    """The order of calls: each object synced, named, its folder synced; only then the commit, and nothing after it."""
    shim = CountingOs(0, lambda: None)

    def committed(_: Connection) -> None:
        shim.seen.append("commit")

    with Bank.open(Path(shutil.copytree(template, tmp_path / "bank"))) as bank, pytest.MonkeyPatch.context() as patched:
        patched.setattr(durable, "os", shim)
        event.listen(Engine, "commit", committed)
        try:
            bank.register(source, name="new")
        finally:
            event.remove(Engine, "commit", committed)
    assert shim.seen[-3:] == ["open", "fsync", "commit"]
    links = [at for at, call in enumerate(shim.seen) if call == "link"]
    assert len(links) == 2
    for number, at in enumerate(links, start=1):
        assert shim.seen[at + 1 : at + 3] == ["open", "fsync"]
        assert shim.seen[:at].count("fchmod") >= number and "fsync" in shim.seen[shim.seen.index("fchmod") : at]


@pytest.mark.skipif(traceable() is not None, reason=str(traceable()))
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_each_failing_system_call_of_the_process(template: Path, source: Path, tmp_path: Path, call: str, error: str) -> None:
    strace = ["strace", "-f", "--seccomp-bpf", "-o", str(tmp_path / "trace"), "-e", f"inject={call}:error={error}:when={WHEN}"]
    python = [sys.executable, "-B", "-m", "tests.faulty", call, str(template), str(source), str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    ran = subprocess.run([*strace, *python], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    statuses = json.loads((tmp_path / "out" / "statuses.json").read_text())
    failed = (tmp_path / "trace").read_text().count("(INJECTED)")
    assert failed >= len(statuses) - 3 and failed > 0, "strace let nothing fail: this would show nothing"
    assert set(statuses) == ({0} if call in FORGIVEN else {0, 9})
    for at, status in enumerate(statuses, start=1):
        assert_well(tmp_path / "out" / str(at), source, acknowledged=status == 0)


@pytest.mark.parametrize("limit", [0, 1, 1 << 10, 1 << 11, 1 << 13, 1 << 15, 1 << 16, 1 << 17])
def test_a_file_size_limit_is_told(template: Path, source: Path, tmp_path: Path, limit: int) -> None:
    """As on a full disk: a file of so many bytes cannot grow any more."""
    place = Path(shutil.copytree(template, tmp_path / "bank"))

    def work() -> None:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            command(place, source)()  # what it says would go to pytest's files, which cannot grow either

    assert in_child(work) == 9
    assert list((place / "staging").iterdir()) == []
    assert_well(place, source, acknowledged=False)


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK) or os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("kibibytes", [0, 4, 8, 16, 32, 64, 128])
def test_a_full_disk_is_told(template: Path, source: Path, tmp_path: Path, kibibytes: int) -> None:
    """A file system in memory on which so much is free."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        place = Path(shutil.copytree(template, small / "bank"))
        free = shutil.disk_usage(small).free
        (small / "filler").write_bytes(bytes(free - (kibibytes << 10)))
        status = in_child(command(place, source))
        assert status == (9 if kibibytes < 64 else status) and status in (0, 9)
        (small / "filler").unlink()
        assert list((place / "staging").iterdir()) == []
        assert_well(place, source, acknowledged=status == 0)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def command(place: Path, source: Path) -> Callable[[], object]:
    from adapterbank.cli.main import root

    return lambda: root.main(["--bank", str(place), "register", str(source), "--name", "new"])
