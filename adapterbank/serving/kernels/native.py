"""The loops of ``loops/``: compiled once in a process, in one to three seconds, with the machine's compiler.

The library belongs to this process alone, so nothing stale or foreign is ever loaded. One build serves every layout, store and
dtype. Calls let go of Python's lock and use as many threads as torch does.
"""

from __future__ import annotations

import ctypes
import importlib.resources
import logging
import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

from adapterbank.errors import PlatformError
from adapterbank.rmm.reconstruct import compiler
from adapterbank.serving.kernels.reference import Packed, Window
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import RmmAdapter

_log = logging.getLogger(__name__)
_SOURCES = importlib.resources.files("adapterbank.serving.kernels") / "loops"
_FLAGS = ("-std=c++17", "-O3", "-w", "-ffp-contract=off", "-fPIC", "-shared", "-pthread")
_WIDE = ("-mprefer-vector-width=512", "-mtune=icelake-server")  # else GCC 12 halves the vectors of processors it does not know
_ATTEMPTS = (("-march=native", *_WIDE), ("-march=native",), ())
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_STORES = {"float32": 0, "bfloat16": 1, "float16": 2, "int8": 3, "int4": 4}
_LONG, _AT = ctypes.c_int64, ctypes.c_void_p


class _Lines(ctypes.Structure):
    _fields_ = (("values", _AT), ("pitch", _LONG), ("scales", _AT), ("p", _LONG), ("store", ctypes.c_int))


class _Member(ctypes.Structure):
    _fields_ = (("table", _AT), ("coefficients", _AT), ("type", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("out", _AT),
        ("type", ctypes.c_int),
        ("column", _LONG),
        ("width", _LONG),
        ("weight", ctypes.c_float),
        ("bytes", _LONG),
    )


class _Codes(ctypes.Structure):
    _fields_ = (
        ("words", _AT), ("widths", _AT), ("columns", _AT), ("scales", _AT), ("components", _LONG), ("table", _AT),
        ("pitches", _AT),
    )  # fmt: skip


def write(adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window]) -> None:
    """Write each adapter into its buffer; neighbours over one basis read it once. Raises PlatformError if nothing compiles."""
    jobs = list(zip(adapters, outs, windows, strict=True))
    for _, group in groupby(jobs, key=lambda job: id(job[0].basis) if isinstance(job[0], RmmAdapter) else id(job)):
        some = list(group)
        buffers = (_Buffer * len(some))(*(_buffer(out, window) for _, out, window in some))
        _write([adapter for adapter, _, _ in some], buffers)


def _write(adapters: Sequence[Packed], buffers: ctypes.Array[_Buffer]) -> None:
    places, threads = adapters[0].layout.table, torch.get_num_threads()
    first = adapters[0]
    if isinstance(first, FixedAdapter):
        _library().write_codes(ctypes.byref(_codes(first)), buffers, _at(places), _LONG(len(places)), _LONG(threads))
        return
    members = (_Member * len(adapters))(*(_member(each) for each in adapters))
    _library().write_lines(
        ctypes.byref(_lines(first)), members, buffers, _LONG(len(members)), _at(places), _LONG(len(places)), _LONG(threads)
    )


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return _AT(None if tensor is None else tensor.data_ptr())


def _buffer(out: Tensor, window: Window) -> _Buffer:
    width = -1 if window.width is None else window.width
    return _Buffer(_at(out), _TYPES[out.dtype], window.column, width, window.weight, out.nbytes)


def _lines(adapter: Packed) -> _Lines:
    if isinstance(adapter, RmmAdapter):
        held = adapter.basis
        return _Lines(_at(held.values), held.values.shape[1], _at(held.scales), held.p, _STORES[held.store])
    assert isinstance(adapter, RawAdapter)
    return _Lines(_at(adapter.values), 0, _at(adapter.scales), 0, _STORES[adapter.store])


def _member(adapter: Packed) -> _Member:
    if isinstance(adapter, RmmAdapter):
        return _Member(_at(adapter.table), _at(adapter.coefficients), _TYPES[adapter.coefficients.dtype])
    assert isinstance(adapter, RawAdapter)
    return _Member(_at(adapter.table), None, 0)


def _codes(adapter: FixedAdapter) -> _Codes:
    return _Codes(
        _at(adapter.words), _at(adapter.widths), _at(adapter.columns), _at(adapter.scales), adapter.widths.shape[1],
        _at(adapter.table), _at(adapter.pitches),
    )  # fmt: skip


def ready() -> bool:
    """Whether the loops can be called. The first call starts to compile them, in a thread; a failure is logged once."""
    building = _building(os.getpid())
    return building.done() and building.exception() is None


def _library() -> ctypes.CDLL:
    return _building(os.getpid()).result()


@cache
def _building(process: int) -> Future[ctypes.CDLL]:
    """The library of this process: what a parent's thread was building never comes to an end in a child."""
    one = ThreadPoolExecutor(1, thread_name_prefix="adapterbank-loops")
    found = one.submit(built)
    found.add_done_callback(_told)
    one.shutdown(wait=False)
    return found


def _told(building: Future[ctypes.CDLL]) -> None:
    if building.exception() is not None:
        _log.warning("%s", building.exception())


def built() -> ctypes.CDLL:
    """Compile and load. Raises PlatformError if the compiler fails."""
    with tempfile.TemporaryDirectory(prefix="adapterbank-") as folder, importlib.resources.as_file(_SOURCES) as sources:
        target = f"{folder}/loops.so"
        for flags in _ATTEMPTS:
            command = [compiler() or "c++", *_FLAGS, *flags, "-o", target, str(sources / "loops.cpp")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                if flags != _ATTEMPTS[0]:
                    _log.warning("%s does not know %s: the loops are slower than they could be", compiler(), _ATTEMPTS[0])
                return ctypes.CDLL(target)
    raise PlatformError(
        f"backend 'compiled': {compiler()} failed with code {done.returncode}: {done.stderr[-500:]}",
        hint="backend 'reference' needs no compiler",
    )
