"""Leased directories: nothing that a living process may read is deleted, everything else goes when room is needed."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapterbank.errors import ConflictError
from adapterbank.integrations.directories import Directories, Full
from adapterbank.integrations.leases import VARIABLE, Lease
from adapterbank.integrations.processes import any_lives, family

BYTES = 1000


def write(place: Path) -> None:
    if not place.exists():
        place.mkdir()
        (place / "weights").write_bytes(b"x" * BYTES)


def without_a_lease() -> dict[str, str]:
    """The environment of a server of its own."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}


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
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd(), env=without_a_lease()
    )
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


ENGINE = """
import sys
from adapterbank.integrations.vllm import register
register()
print("ready", flush=True)
sys.stdin.read()
"""

ASKING = """
import sys
from pathlib import Path
from adapterbank.integrations.directories import Directories
from tests.integrations.test_directories import write
Directories(Path(sys.argv[1]), 10**6).lease("a", 1000, write)
print("asked", flush=True)
"""


def engine(root: Path, name: str) -> subprocess.Popen[str]:
    """A process of the server ``name`` that loads the plugin, as every process of a vLLM does, and asks for nothing."""
    environment = os.environ | {"ADAPTERBANK": "/nowhere", "ADAPTERBANK_CACHE": str(root), VARIABLE: name}
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("late", [False, True], ids=["a sibling", "started after the request"])
def test_an_engine_that_the_asking_process_did_not_start_keeps_its_servers_directories(tmp_path, late):
    """An engine may be the sibling of the process that answers requests, or be started after it has answered some."""
    name, other = "7-" + "a" * 16, "8-" + "b" * 16
    running = None if late else engine(tmp_path, name)
    asking = [sys.executable, "-c", ASKING + ("sys.stdin.read()" if late else ""), str(tmp_path)]
    pipe = subprocess.PIPE
    server = subprocess.Popen(asking, cwd=Path.cwd(), env=os.environ | {VARIABLE: name}, stdin=pipe, stdout=pipe, text=True)
    assert server.stdout is not None and server.stdout.readline() == "asked\n"
    running = engine(tmp_path, name) if late else running
    server.communicate("")
    stranger = engine(tmp_path, other)
    assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a"}
    running.communicate("")
    assert Directories(tmp_path, 10 * BYTES).swept == 1, "another server needs none of it"
    stranger.communicate("")


@pytest.mark.parametrize(
    "data", [b'{"key": "a', b"\xff\xfe\n", b"5\n", b'{"key": 7, "where": [], "processes": []}\n', b"[" * 100_000, b"\n"]
)
def test_a_damaged_lease_of_nobody_is_told_and_deleted(tmp_path, caplog, data):
    directories = Directories(tmp_path, 10 * BYTES)
    directories.lease("a", BYTES, write)
    (tmp_path / "leases" / "1-x").write_bytes(data)
    assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a"}
    assert "1-x is damaged" in caplog.text and not (tmp_path / "leases" / "1-x").exists()
    directories.lease("b", BYTES, write)


def test_what_is_no_lease_stops_nobody(tmp_path, caplog):
    directories = Directories(tmp_path, 10 * BYTES)
    (tmp_path / "leases" / "folder").mkdir()
    (tmp_path / "leases" / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "leases" / "pipe")
    assert Directories(tmp_path, 10 * BYTES).swept == 0
    assert caplog.text.count("is no lease") == 3
    directories.lease("a", BYTES, write)


def test_while_a_servers_lease_is_damaged_nothing_is_deleted(tmp_path):
    process, _ = leasing(tmp_path, "a")
    (lease,) = (tmp_path / "leases").iterdir()
    lease.write_bytes(lease.read_bytes()[:-10])
    assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a"}
    process.communicate("")
    assert Directories(tmp_path, 10 * BYTES).swept == 1


def test_a_lease_that_cannot_be_read_may_be_another_users(tmp_path, monkeypatch, caplog):
    leasing(tmp_path, "a")[0].communicate("")
    (lease,) = (tmp_path / "leases").iterdir()
    opening = os.open

    def refusing(path, *rest, **named):
        if path == lease:
            raise PermissionError(13, "Permission denied")
        return opening(path, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        assert Directories(tmp_path, 10 * BYTES).swept == 0 and keys(tmp_path) == {"a"} and "cannot be read" in caplog.text
    assert Directories(tmp_path, 10 * BYTES).swept == 1


def test_counts_of_dead_servers_go_with_their_leases(tmp_path):
    directories = Directories(tmp_path, 10 * BYTES)
    directories.join()
    for name in (directories.lease_name, "1-gone"):
        (directories.metrics / f"{name}.7.prom").write_text("")
    Directories(tmp_path, 10 * BYTES)
    assert [path.name for path in directories.metrics.iterdir()] == [f"{directories.lease_name}.7.prom"]


def test_a_line_that_does_not_fit_on_the_disk_is_not_left_there_in_part(tmp_path, monkeypatch):
    lease = Lease(tmp_path, "1-x")
    lease.add("a")
    before = (tmp_path / "1-x").read_bytes()
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:20]))
    with pytest.raises(OSError, match="No space"):
        lease.add("b")
    monkeypatch.undo()
    assert (tmp_path / "1-x").read_bytes() == before
    lease.add("b")
    assert [json.loads(line)["key"] for line in (tmp_path / "1-x").read_text().splitlines()] == ["a", "b"]


def test_a_key_is_noted_once_until_the_processes_are_others(tmp_path):
    directories = Directories(tmp_path, 10 * BYTES)
    for _ in range(20):
        directories.lease("a", BYTES, write)
    (lease,) = (tmp_path / "leases").iterdir()
    assert len(lease.read_text().splitlines()) == 1
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    directories.lease("a", BYTES, write)
    last = json.loads(lease.read_text().splitlines()[-1])
    assert child.pid in {pid for pid, _ in last["processes"]}
    child.communicate()


def test_a_conflict_in_a_new_directory_is_an_error(tmp_path):
    def conflicting(place: Path) -> None:
        raise ConflictError("always")

    with pytest.raises(ConflictError):
        Directories(tmp_path, 10 * BYTES).lease("a", BYTES, conflicting)
