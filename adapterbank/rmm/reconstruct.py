"""μ + Σ_k c_k·b_k for all rows of an adapter at once: the one operation that is done over and over.

It moves (p + 2)·r + p numbers per row and adds almost nothing, so memory bandwidth is all. Two backends:

- ``blocks``: plain torch in row blocks that stay in cache, shared out to threads. Works everywhere.
- ``compiled``: one fused loop by ``torch.compile``; faster by a third on a CPU and one launch on a GPU, but the first call of
  a process compiles (5 to 20 s where nothing is cached), and a CPU needs a C++ compiler.

``auto`` is ``blocks``: its first call is as fast as every other. A long-lived process asks for ``compiled`` by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from adapterbank.errors import PlatformError, UsageError
from adapterbank.linalg.workers import share_out

BACKENDS = ("auto", "compiled", "blocks")
_BLOCK = 1 << 19  # numbers of a block, 2 MB of float32 per operand: smaller ones pay for dispatch, larger ones for memory


def reconstruct(
    mean: Tensor, components: Tensor, coefficients: Tensor, out: Tensor | None = None, *, backend: str = "auto"
) -> Tensor:
    """The rows ``[D, r]`` of ``mean [D, r]``, ``components [p, D, r]`` and ``coefficients [D, p]``.

    ``out`` is filled and returned if given; else the result has the dtype of ``mean``, on its device. Sums run in float32, in
    float64 where ``out`` is float64. Raises UsageError for shapes that do not fit, PlatformError if ``compiled`` cannot run.
    """
    p, D, r = components.shape
    out = torch.empty_like(mean) if out is None else out
    if mean.shape != (D, r) or coefficients.shape != (D, p) or out.shape != (D, r):
        raise UsageError(
            f"reconstruct: mean {list(mean.shape)}, components {list(components.shape)}, coefficients "
            f"{list(coefficients.shape)} and out {list(out.shape)} do not fit [D, r], [p, D, r], [D, p], [D, r]"
        )
    if D and r:
        _BY_NAME[backend_for(backend, mean.device)](mean, components, coefficients, out)
    return out


def backend_for(backend: str, device: torch.device | str = "cpu") -> str:
    """The name of the backend that ``backend`` means on this device: ``compiled`` or ``blocks``.

    Raises UsageError for an unknown name, and PlatformError for ``compiled`` on a CPU without a C++ compiler.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} does not exist: expected one of {', '.join(BACKENDS)}")
    if backend == "compiled" and torch.device(device).type == "cpu" and compiler() is None:
        raise PlatformError("backend 'compiled' needs a C++ compiler, and none was found", hint="install g++, or use 'blocks'")
    return "blocks" if backend == "auto" else backend


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use on the CPU, or None: ``CXX``, else g++, clang++ or c++ on the path."""
    return _compiler(os.environ.get("CXX"), os.environ.get("PATH"))


@cache
def _compiler(named: str | None, path: str | None) -> str | None:
    """Once for an environment: serving asks at every write, and a look through the path takes as long as a small one."""
    found = (shutil.which(name, path=path) for name in ([named] if named else ["g++", "clang++", "c++"]))
    return next((each for each in found if each is not None), None)


def _blocks(mean: Tensor, components: Tensor, coefficients: Tensor, out: Tensor) -> None:
    D, r = mean.shape
    step = max(1, _BLOCK // r) if mean.device.type == "cpu" else D

    def one(start: int) -> None:
        rows = slice(start, start + step)
        _add_up(mean[rows], components[:, rows], coefficients[rows], out[rows])

    if step >= D:
        one(0)
    else:
        share_out(one, range(0, D, step))


def _add_up(mean: Tensor, components: Tensor, coefficients: Tensor, out: Tensor) -> None:
    work = _work_dtype(out)
    total = out if out.dtype == work else torch.empty_like(out, dtype=work)
    columns = coefficients.to(work)
    if len(components) == 0:
        total.copy_(mean)
    for k, component in enumerate(components):
        so_far = mean.to(work) if k == 0 else total
        torch.addcmul(so_far, component.to(work), columns[:, k : k + 1], out=total)
    if total is not out:
        out.copy_(total)


def _compiled(mean: Tensor, components: Tensor, coefficients: Tensor, out: Tensor) -> None:
    _kernel()(mean, components, coefficients, out)


@cache
def _kernel() -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    return torch.compile(_fused, dynamic=False)


def _fused(mean: Tensor, components: Tensor, coefficients: Tensor, out: Tensor) -> None:
    work = _work_dtype(out)
    total = mean.to(work)
    for k in range(components.shape[0]):
        total = total + coefficients[:, k, None].to(work) * components[k].to(work)
    out.copy_(total)


def _work_dtype(out: Tensor) -> torch.dtype:
    return torch.float64 if out.dtype == torch.float64 else torch.float32


_BY_NAME = {"blocks": _blocks, "compiled": _compiled}
