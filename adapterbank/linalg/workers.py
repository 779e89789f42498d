"""Coarse parallelism: whole pieces of work on threads of their own, torch single-threaded within each.

Work on small matrices spends its time in LAPACK calls and short loops that torch runs in one thread, or splits so finely that
threads mostly wait for each other. With one piece per thread every core is busy, and no sum depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from adapterbank.linalg.threads import one_thread

_MOST = 8  # threads: each holds its own row blocks, and memory is to stay bounded on a machine of any size

T = TypeVar("T")
R = TypeVar("R")


def share_out(task: Callable[[T], R], items: Iterable[T], done: Callable[[R], None] | None = None) -> None:
    """Run ``task`` on every item, on as many threads as torch is set to use, eight at most.

    ``done`` is given the results in order, on the calling thread. Torch's number of threads is one setting for the whole
    process: it is 1 meanwhile and put back afterwards. An exception drops the items that were not begun. Where there is one
    thread or one item, all is done on the caller's.
    """
    todo = list(items)
    with one_thread() as threads:
        workers = min(threads, _MOST, len(todo))
        if workers < 2:
            _report(map(task, todo), done)
            return
        pool = ThreadPoolExecutor(workers)
        try:
            _report(pool.map(task, todo), done)
        finally:
            pool.shutdown(cancel_futures=True)


def _report(results: Iterable[R], done: Callable[[R], None] | None) -> None:
    for result in results:
        if done is not None:
            done(result)
