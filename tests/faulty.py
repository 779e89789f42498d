"""Runs under strace (see test_faults): processes of which each has another one of its system calls fail.

strace counts the calls of each process on its own and lets the WHEN-th fail. A child that first makes WHEN − N harmless
calls has its N-th own call fail. It registers SOURCE in a fresh copy of the bank TEMPLATE. Children N = 1, 2, 3 … are
forked until three in a row succeed; their exit statuses are written to OUT/statuses.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from adapterbank.cli import register as _imported_before_the_fork  # noqa: F401
from adapterbank.cli.main import root
from adapterbank.ways import register

WHEN = 400
NOBODYS = 999  # a descriptor that is not open


class Inline:
    """An executor that works at once, in this thread: strace counts each thread on its own."""

    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


def harmless(call: str, scratch: Path, times: int) -> None:
    """Make one system call so many times, to no effect."""
    scratch.touch()
    other = scratch.with_suffix(".other")
    fd = os.open(scratch, os.O_RDWR)

    def refused(act: Callable[..., object], *arguments: object) -> None:
        try:
            act(*arguments)
        except OSError:
            return

    acts: dict[str, Callable[[], object]] = {
        "write": lambda: os.write(fd, b""),
        "pwrite64": lambda: os.pwrite(fd, b"", 0),
        "fsync": lambda: refused(os.fsync, NOBODYS),
        "fdatasync": lambda: refused(os.fdatasync, NOBODYS),
        "ftruncate": lambda: os.ftruncate(fd, 0),
        "fchmod": lambda: os.fchmod(fd, 0o600),
        "copy_file_range": lambda: refused(os.copy_file_range, NOBODYS, NOBODYS, 1),
        "mkdir": lambda: refused(os.mkdir, scratch),
        "link": lambda: refused(os.link, scratch, scratch),
        "unlink": lambda: refused(os.unlink, other),
    }
    for _ in range(times):
        acts[call]()


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own; its exit status."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            work()
            status = 0
        except SystemExit as leave:
            status = leave.code if isinstance(leave.code, int) else 71
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(call: str, template: Path, source: Path, out: Path) -> None:
    assert register.ThreadPoolExecutor is not None
    register.ThreadPoolExecutor = Inline  # type: ignore[misc, assignment]
    statuses: list[int] = []
    while len(statuses) < WHEN and statuses[-3:] != [0, 0, 0]:
        bank = out / str(len(statuses) + 1)
        assert in_child(lambda bank=bank: shutil.copytree(template, bank)) == 0

        def work(bank: Path = bank, at: int = len(statuses) + 1) -> None:
            harmless(call, out / "scratch", WHEN - at)
            root.main(["--bank", str(bank), "register", str(source), "--name", "new"])

        statuses.append(in_child(work))
    (out / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
