"""Torch's number of threads, borrowed and given back.

It is one setting for the whole process. Whoever saved it, set 1 and put it back beside somebody who does the same would leave
the process at 1; here the first borrower saves it and the last one puts it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import torch


@dataclass(slots=True)
class _Setting:
    borrowers: int = 0
    threads: int = 1
    lock: Lock = field(default_factory=Lock)


_setting = _Setting()


@contextmanager
def one_thread() -> Iterator[int]:
    """Torch computes in one thread inside the block, which gets the caller's own number; blocks may overlap in time."""
    with _setting.lock:
        if _setting.borrowers == 0:
            _setting.threads = torch.get_num_threads()
            torch.set_num_threads(1)
        _setting.borrowers += 1
    try:
        yield _setting.threads
    finally:
        with _setting.lock:
            _setting.borrowers -= 1
            if _setting.borrowers == 0:
                torch.set_num_threads(_setting.threads)
