"""One arithmetic for every merge, whatever the caller's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from adapterbank.linalg.threads import one_thread


@contextmanager
def fixed_arithmetic() -> Iterator[None]:
    """Run torch's factorisations and reductions in one thread, without gradients; put the caller's setting back.

    The order of a threaded sum depends on the number of threads, and so would the last bit. The setting also governs the
    BLAS that torch was built with, not numpy's: nothing in a merge calls ``numpy.linalg``.
    It is one setting for the whole process, so other threads of the caller compute with it while a merge runs.
    """
    with one_thread(), torch.no_grad():
        yield
