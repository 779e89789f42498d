"""Leased directories: nothing that a living process may read is deleted, everything else goes when room is needed."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapterbank.integrations.directories import Directories, Full
from adapterbank.integrations.processes import any_lives, family

BYTES = 1000


def write(place: Path) -> None:
    if not place.exists():
        place.mkdir()
        (place / "weights").write_bytes(b"x" * BYTES)


def keys(root: Path) -> set[str]:
    return {place.name for place in (root / "adapters").iterdir()}


LEASING = """
import sys, subprocess
from pathlib import Path
from adapterbank.integrations.directories import Directories
from tests.integrations.test_directories import write
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) if sys.argv[3] else None
for key in sys.argv[2].split(","):
    Directories(Path(sys.argv[1]), 10**6).lease(key, 1000, write)
print(child.pid if child else 0, flush=True)
sys.stdin.read()
"""


def leasing(root: Path, names: str, child: bool = False) -> tuple[subprocess.Popen[str], int]:
    """A process that holds leases until its input ends, and the number of its child if it has one."""
    command = [sys.executable, "-c", LEASING, str(root), names, "child" if child else ""]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_directory_is_written_once_and_checked_again(tmp_path):
    calls = []
    directories = Directories(tmp_path, 10 * BYTES)
    for _ in range(2):
        path = directories.lease("a", BYTES, lambda place: (calls.append(place.exists()), write(place)))
    assert calls == [False, True] and path == tmp_path / "adapters" / "a" and directories.bytes == BYTES


def test_over_the_cap_what_this_process_leases_stays_and_the_next_is_refused(tmp_path):
    directories = Directories(tmp_path, 2 * BYTES)
    directories.lease("a", BYTES, write)
    directories.lease("b", BYTES, write)
    with pytest.raises(Full, match=r"2000 bytes .* 1000 more would be over the cap of 2000"):
        directories.lease("c", BYTES, write)
    assert keys(tmp_path) == {"a", "b"}
    directories.lease("a", BYTES, write)


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path):
    process, _ = leasing(tmp_path, "a,b")
    assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a", "b"}
    process.kill()
    process.communicate()
    (tmp_path / "adapters" / ".c.partial").mkdir()
    assert Directories(tmp_path, 10 * BYTES).swept == 3 and keys(tmp_path) == set()
    assert not list((tmp_path / "leases").iterdir())


def test_a_worker_that_outlives_the_process_it_reads_for_keeps_its_directories(tmp_path):
    process, worker = leasing(tmp_path, "a", child=True)
    process.kill()
    process.wait()
    assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a"}
    os.kill(worker, 9)
    while any_lives({"where": family()["where"], "processes": [[worker, _start(worker)]]}):
        pass  # it ends at once; the kernel reaps it
    assert Directories(tmp_path, 10 * BYTES).swept == 1
    process.communicate()


def _start(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return -1


def test_room_is_made_of_what_nobody_leases_any_more(tmp_path):
    directories = Directories(tmp_path, 2 * BYTES)
    process, _ = leasing(tmp_path, "a,b")
    with pytest.raises(Full):
        directories.lease("c", BYTES, write)
    process.communicate("")
    directories.lease("c", BYTES, write)
    assert keys(tmp_path) == {"c"}


def test_threads_that_want_the_same_get_the_same(tmp_path):
    directories, found = Directories(tmp_path, 10 * BYTES), []
    threads = [threading.Thread(target=lambda: found.append(directories.lease("a", BYTES, write))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "adapters" / "a"] * 8


def test_a_failed_write_leaves_no_lease(tmp_path):
    def failing(place: Path) -> None:
        raise OSError("disk")

    directories = Directories(tmp_path, 10 * BYTES)
    with pytest.raises(OSError, match="disk"):
        directories.lease("a", BYTES, failing)
    assert not list((tmp_path / "leases").iterdir())


def test_a_family_is_this_process_and_its_children():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    about = json.loads(json.dumps(family()))
    assert {os.getpid(), child.pid} <= {pid for pid, _ in about["processes"]} and any_lives(about)
    of_child = about | {"processes": [entry for entry in about["processes"] if entry[0] == child.pid]}
    assert any_lives(of_child) and not any_lives(of_child | {"where": ["another boot", ""]})
    child.communicate()
    assert not any_lives(of_child)
    reused = [[pid, start - 1] for pid, start in about["processes"]]
    assert not any_lives(about | {"processes": reused})
