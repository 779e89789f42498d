"""From what is resident to the rows of a buffer: one specification, and faster ways to the same numbers.

- ``reference``: plain torch, place by place. Works everywhere; every other backend is tested against it.
- ``compiled``: on a CPU the loops of ``loops/``, which need a C++ compiler; on a GPU what ``torch.compile`` fuses. In bfloat16
  a processor that rounds in hardware makes 0 of what is below 2^-126.
- ``triton``: one launch for the whole layout; a CUDA device, or Triton's interpreter.

``auto`` takes ``triton`` on a CUDA device where Triton is installed, else ``compiled`` where it can run, else ``reference``. On
a CPU it takes the reference too while the loops are being compiled, in a thread: the same numbers, from the first request on.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from adapterbank.errors import PlatformError, UsageError
from adapterbank.rmm.reconstruct import compiler
from adapterbank.serving.kernels.reference import Packed, Window

BACKENDS = ("auto", "reference", "compiled", "triton")
_MODULES = {"reference": "reference", "compiled": "compiled", "triton": "triton_"}


def backend_for(name: str, device: torch.device | str = "cpu") -> str:
    """The backend that ``name`` means on ``device``. Raises UsageError for a name that is none, PlatformError saying why one
    that was asked for by name cannot run here."""
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r}: expected one of {', '.join(BACKENDS)}")
    kind = torch.device(device).type
    if name == "auto":
        return next(each for each in ("triton", "compiled", "reference") if obstacle(each, kind) is None and _fits(each, kind))
    reason = obstacle(name, kind)
    if reason is not None:
        raise PlatformError(f"backend {name!r} cannot run on {kind}: {reason}", hint="backend 'reference' runs everywhere")
    return name


def current(name: str, device: torch.device | str = "cpu") -> str:
    """The backend that a write by ``name`` takes now; the first call for ``auto`` on a CPU starts to compile the loops."""
    chosen = backend_for(name, device)
    if name == "auto" and chosen == "compiled" and torch.device(device).type == "cpu":
        native = importlib.import_module(f"{__name__}.native")
        return chosen if native.ready() else "reference"
    return chosen


def obstacle(name: str, kind: str) -> str | None:
    """Why a backend cannot run on devices of this type; None if it can."""
    if name == "triton":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        if kind != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return "Triton compiles for CUDA only; TRITON_INTERPRET=1 runs it in its interpreter"
    if name == "compiled" and kind == "cpu" and compiler() is None:
        return "it needs a C++ compiler, and none was found"
    return None


def _fits(name: str, kind: str) -> bool:
    """Whether ``auto`` may take it: the interpreter is for tests."""
    return name != "triton" or kind == "cuda"


def write(
    adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window] | None = None, *, backend: str = "auto"
) -> None:
    """Write each adapter into its buffer, as :func:`reference.write` says, by ``backend`` (see :func:`current`)."""
    if adapters:
        chosen = current(backend, outs[0].device)
        importlib.import_module(f"{__name__}.{_MODULES[chosen]}").write(adapters, outs, windows)
