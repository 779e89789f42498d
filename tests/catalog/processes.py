"""Run functions in forked processes at once and collect what they say."""

import os
from collections.abc import Callable, Sequence

from tests.catalog.make import outcome


def together(actions: Sequence[Callable[[], object]]) -> list[str]:
    """Fork one process per action, let all go at the same moment, and return each one's outcome."""
    gate_read, gate_write = os.pipe()
    children = [_start(action, gate_read, gate_write) for action in actions]
    os.close(gate_read)
    os.close(gate_write)  # the gate opens when its last writer, this process, lets go
    outcomes = []
    for pid, results in children:
        with os.fdopen(results) as stream:
            outcomes.append(stream.read())
        os.waitpid(pid, 0)
    return outcomes


def _start(action: Callable[[], object], gate_read: int, gate_write: int) -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(gate_write)
            os.close(read)
            os.read(gate_read, 1)
            os.write(write, outcome(action).encode())
        finally:
            os._exit(0)
    os.close(write)
    return pid, read
