"""Every backend writes what the reference writes: each form, store, dtype, shard, window, and however many adapters at once.

On a machine without a GPU Triton's program runs in its interpreter, which has to be chosen before it is imported: in a process
of its own, that runs this file once more.
"""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from itertools import product

import pytest
import torch

from adapterbank.errors import PlatformError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import ModuleShape
from adapterbank.serving import kernels
from adapterbank.serving.kernels import fused, native
from adapterbank.serving.kernels.reference import Window
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.packed.stored import STORES
from adapterbank.serving.slots import SlotLayout
from tests.serving.made import adapter, basis, fixed_form

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(reason is not None, reason=str(reason)))
    for name in ("compiled", "triton")
    for reason in [kernels.obstacle(name, DEVICE)]
]
FORMS = [*(("rmm", store) for store in STORES), *(("raw", store) for store in STORES), ("fixed", "")]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CASES = [  # the interpreter takes its time
    (*form, dtype)
    for form in FORMS
    for dtype in DTYPES
    if not INTERPRETED or dtype == torch.float32 or form in (("rmm", "int8"), ("fixed", ""))
]
ABSENT_AND_LOWER = [
    adapter(1),
    adapter(2, skip=("layers.0.q_proj",)),
    adapter(3, ranks={"layers.0.q_proj": 2, "layers.0.down_proj": 3, "layers.1.q_proj": 4}),
]
SHAPES = [shape for each in ABSENT_AND_LOWER for shape in each.shapes]
WIDE = SlotLayout.of(SHAPES, 8)
LAYOUTS = {"own": SlotLayout.of(SHAPES), "wide": WIDE, "shard": WIDE.shard(1, 2), "nothing": SlotLayout.of([])}


def residents(form, store, layout, coefficients=torch.bfloat16):
    """The three adapters as they are resident on the device under test."""
    place = lambda tensor: tensor.to(DEVICE)  # noqa: E731
    if form == "rmm":
        made, members = basis(ABSENT_AND_LOWER, 3, coefficients)
        shared = ResidentBasis.of(made, layout, store).moved(place)
        return [RmmAdapter.of(member, shared).moved(place) for member in members]
    if form == "raw":
        return [RawAdapter.of(each, layout, store).moved(place) for each in ABSENT_AND_LOWER]
    return [FixedAdapter.of(fixed_form(each), layout).moved(place) for each in ABSENT_AND_LOWER]


def written(backend, items, dtype=torch.float32, windows=None):
    outs = [torch.full((items[0].layout.size,), 7.0, dtype=dtype, device=DEVICE) for _ in items]
    kernels.write(items, outs, windows, backend=backend)
    return outs


def check(backend, found, wanted):
    """Bit by bit, but for the interpreter, which cuts a float32 to bfloat16 instead of rounding it."""
    for one, other in zip(found, wanted, strict=True):
        loss = 2**-7 if backend == "triton" and INTERPRETED and one.dtype == torch.bfloat16 else 0
        torch.testing.assert_close(one, other, rtol=loss, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("form", "store", "dtype"), CASES)
def test_a_backend_writes_what_the_reference_writes(backend, form, store, dtype):
    items = residents(form, store, WIDE)
    check(backend, written(backend, items, dtype), written("reference", items, dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["own", "shard"])
@pytest.mark.parametrize(("form", "store"), [("rmm", "float32"), ("rmm", "int4"), ("raw", "int8"), ("fixed", "")])
def test_whole_layouts_and_shards(backend, form, store, layout):
    items = residents(form, store, LAYOUTS[layout])
    check(backend, written(backend, items), written("reference", items))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", ["rmm", "raw", "fixed"])
def test_windows_leave_the_other_columns_and_weigh_B(backend, form):
    items = residents(form, "bfloat16", WIDE)
    windows = [Window(0, 4, -0.7), Window(3, None, 0.5), Window(1, 5)]
    check(backend, written(backend, items, windows=windows), written("reference", items, windows=windows))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("form", "store"), [("rmm", "bfloat16"), ("rmm", "int8"), ("raw", "int4"), ("fixed", "")])
def test_the_result_does_not_depend_on_how_many_are_written_at_once(backend, form, store):
    items = residents(form, store, LAYOUTS["own"])
    together = written(backend, [*items, items[0]])
    alone = [written(backend, [item])[0] for item in items]
    for one, other in zip(together, [*alone, alone[0]], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_adapters_of_every_form_in_one_call(backend):
    items = [residents(form, "int8", WIDE)[0] for form in ("rmm", "raw", "fixed")]
    check(backend, written(backend, items), written("reference", items))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("coefficients", DTYPES)
def test_coefficients_of_every_dtype(backend, coefficients):
    items = residents("rmm", "int8", WIDE, coefficients)
    loss = 0 if coefficients == torch.bfloat16 else 1e-6  # else products are not exact, and torch may fuse them with the sum
    for one, other in zip(written(backend, items), written("reference", items), strict=True):
        torch.testing.assert_close(one, other, rtol=10 * loss, atol=loss)


@pytest.mark.parametrize(("form", "store"), FORMS)
def test_what_torch_compiles_for_a_gpu_is_the_same_before_it_is_compiled(form, store, monkeypatch):
    monkeypatch.setattr(fused, "_compiled", lambda function, case: function)
    for layout, windows in (("own", [Window()] * 3), ("wide", [Window(0, 4, -0.7), Window(3, None, 0.5), Window(1, 5)])):
        items = residents(form, store, LAYOUTS[layout])
        outs = written("reference", items, windows=windows)
        found = [torch.full_like(out, 7.0) for out in outs]
        fused.write(items, found, windows)
        check("compiled", found, outs)


def test_torch_goes_on_compiling_however_many_cases_there_are(monkeypatch):
    monkeypatch.setattr(fused, "_compiled", cache(fused._compiled.__wrapped__))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=2):
        for form, store in (("rmm", "float32"), ("rmm", "int8"), ("raw", "int4"), ("fixed", "")):
            items = residents(form, store, LAYOUTS["own"])
            outs = [torch.zeros(item.layout.size, device=DEVICE) for item in items]
            fused.write(items, outs, [Window()] * 3)
            check("compiled", outs, written("reference", items))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layout_without_a_module_is_written_at_once(backend):
    items = [RawAdapter.of(Adapter({}), LAYOUTS["nothing"], "float32")]
    assert written(backend, items)[0].numel() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_that_is_too_narrow_and_a_buffer_of_another_size_are_refused(backend):
    items = residents("raw", "float32", WIDE)
    with pytest.raises(UsageError, match="3 columns do not fit into a window of 2"):
        written(backend, items[:1], windows=[Window(0, 2)])
    with pytest.raises(UsageError, match="expected a contiguous one"):
        kernels.write(items[:1], [torch.zeros(3, device=DEVICE)], backend=backend)
    with pytest.raises(PlatformError, match=r"does not write a RawAdapter into torch\.float64"):
        written(backend, items[:1], torch.float64)


@pytest.mark.skipif(kernels.obstacle("compiled", DEVICE) is not None, reason=str(kernels.obstacle("compiled", DEVICE)))
@pytest.mark.parametrize("begin", [0, 1])
def test_a_buffer_that_is_larger_than_the_cache(begin):
    draw = torch.Generator().manual_seed(5)
    rows, rank = 75_011, 32
    B, A = torch.randn(rows, rank, generator=draw), torch.randn(rank, rows, generator=draw)
    item = RawAdapter.of(
        Adapter({"layer": Factors(A=A, B=B)}), SlotLayout.of(Adapter({"layer": Factors(A=A, B=B)}).shapes), "int8"
    )
    outs = [torch.zeros(item.layout.size + 1, dtype=torch.bfloat16)[begin : begin + item.layout.size] for _ in range(2)]
    for out, backend in zip(outs, ("compiled", "reference"), strict=True):
        kernels.write([item.moved(lambda tensor: tensor.to(DEVICE))], [out.to(DEVICE)], backend=backend)
    assert torch.equal(*outs)


def every_width(rank):
    """A fixed-width adapter of random words whose components are 1 to 8 bits wide, and not in the order of width."""
    shapes = [ModuleShape("layers.0.q_proj", 70, 45, rank), ModuleShape("layers.1.q_proj", 64, 96, rank)]
    layout, draw = SlotLayout.of(shapes), torch.Generator().manual_seed(rank)
    widths = torch.stack([1 + 3 * torch.arange(2 * rank) % 8, 1 + 5 * torch.arange(2 * rank) % 8]).to(torch.uint8)
    table, pitches, columns, begin = [], [], torch.zeros(2, 2 * rank, dtype=torch.int32), 0
    for number, place in enumerate(layout):
        some, entry, pitch = slice(number * rank, (number + 1) * rank), [number * rank, rank], []
        for side, rows in enumerate((place.out, place.into)):
            wide = widths[side, some].int()
            columns[side, some], entry = wide.cumsum(0) - wide, [*entry, begin, 0]
            pitch.append(int(wide.sum()))
            begin += -(-len(rows) // 32) * pitch[-1]
        table.append(entry)
        pitches.append(pitch)
    words = torch.randint(-(2**31), 2**31, (begin,), generator=draw).to(torch.int32)
    scales = torch.randn(2, 2 * rank, generator=draw).to(torch.bfloat16)
    return FixedAdapter(layout, words, widths, columns, scales, torch.tensor(table), torch.tensor(pitches), rank, 8)


@pytest.mark.skipif(kernels.obstacle("compiled", "cpu") is not None, reason=str(kernels.obstacle("compiled", "cpu")))
@pytest.mark.parametrize("flags", [native._ATTEMPTS[0], ()], ids=["for this processor", "for any"])
@pytest.mark.parametrize("rank", [8, 16, 20])
def test_the_loops_for_every_width_and_processor(flags, rank, monkeypatch):
    monkeypatch.setattr(native, "_ATTEMPTS", (flags,))
    monkeypatch.setattr(native, "_library", cache(native.built))
    item, windows = every_width(rank), [Window(), Window(0, None, -0.3)]
    whole = adapter(7, ranks=dict.fromkeys(adapter(7).modules, rank))
    made, members = basis([whole, whole], 4)
    items = [RmmAdapter.of(members[1], ResidentBasis.of(made, SlotLayout.of(whole.shapes), store)) for store in STORES]
    for dtype, window in product(DTYPES, windows):
        for one in (item, *items):
            outs = [torch.zeros(one.layout.size, dtype=dtype) for _ in range(2)]
            native.write([one], outs[:1], [window])
            kernels.write([one], outs[1:], [window], backend="reference")
            assert torch.equal(*outs)


@pytest.mark.skipif(kernels.obstacle("compiled", "cpu") is not None, reason=str(kernels.obstacle("compiled", "cpu")))
def test_workers_that_are_shared_by_many_callers_write_every_chunk():
    shapes = [ModuleShape(f"layers.{number}.q_proj", 4000, 3000, 16) for number in range(6)]
    layout, draw = SlotLayout.of(shapes), torch.Generator().manual_seed(0)
    modules = {s.name: Factors(A=torch.randn(16, s.d_in, generator=draw), B=torch.randn(s.d_out, 16)) for s in shapes}
    item, wanted, before = RawAdapter.of(Adapter(modules), layout, "int8"), torch.zeros(layout.size), torch.get_num_threads()
    kernels.write([item], [wanted], backend="reference")
    outs = [torch.zeros(layout.size) for _ in range(4)]

    def writes(out):
        for _ in range(25):
            out.zero_()
            native.write([item], [out], [Window()])
            assert torch.equal(out, wanted)

    torch.set_num_threads(5)
    try:
        with ThreadPoolExecutor(len(outs)) as callers:
            list(callers.map(writes, outs))
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(INTERPRETED, reason="this is the process that it starts")
def test_the_program_for_triton_in_its_interpreter():
    chosen = ["-k", "triton and not interpreter and not without", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", __file__, *chosen]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "SKIPPED" not in done.stdout


def test_triton_without_a_gpu_says_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if importlib.util.find_spec("triton") is not None:
        with pytest.raises(PlatformError, match="Triton compiles for CUDA only; TRITON_INTERPRET=1"):
            kernels.backend_for("triton", "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlatformError, match="Triton is not installed"):
        kernels.backend_for("triton", "cuda")


def test_a_compiler_that_is_not_there_or_fails_is_told(monkeypatch):
    monkeypatch.setattr(kernels, "compiler", lambda: None)
    with pytest.raises(PlatformError, match=r"needs a C\+\+ compiler"):
        kernels.backend_for("compiled", "cpu")
    assert kernels.backend_for("auto", "cpu") == "reference"
    monkeypatch.setattr(native, "compiler", lambda: "false")
    with pytest.raises(PlatformError, match="failed with code 1"):
        native.built()


@pytest.mark.skipif(kernels.obstacle("compiled", "cpu") is not None, reason=str(kernels.obstacle("compiled", "cpu")))
def test_auto_takes_the_reference_while_the_loops_are_compiled(monkeypatch):
    building = Future()
    monkeypatch.setattr(native, "_building", lambda process: building)
    assert kernels.backend_for("auto") == "compiled" and kernels.current("auto") == "reference"
    assert kernels.current("compiled") == "compiled"
    building.set_result(None)
    assert kernels.current("auto") == "compiled"


@pytest.mark.skipif(kernels.obstacle("compiled", "cpu") is not None, reason=str(kernels.obstacle("compiled", "cpu")))
def test_auto_goes_on_with_the_reference_where_the_compiler_fails(monkeypatch):
    monkeypatch.setattr(native, "compiler", lambda: "false")
    building = native._building.__wrapped__(0)
    monkeypatch.setattr(native, "_building", lambda process: building)
    with pytest.raises(PlatformError, match="failed with code 1"):
        native._library()
    assert kernels.current("auto") == "reference"
    items = residents("raw", "float32", LAYOUTS["own"])
    assert torch.equal(written("auto", items)[0].cpu(), written("reference", items)[0].cpu())
