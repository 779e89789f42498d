"""What holds for every method: bits, ranks, dtypes, refusals."""

import pytest
import torch

from adapterbank.errors import IncompatibleError, PlatformError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import METHODS, elementwise, merge
from adapterbank.merge.determinism import fixed_arithmetic
from tests.merge.factories import adapter, deltas, digests, distance, factors, run

SHARDS = ({"blocks.0.q", "blocks.1.down"}, {"blocks.0.up"})


def same_bits(first: Adapter, second: Adapter) -> bool:
    return first.modules.keys() == second.modules.keys() and all(
        torch.equal(f.A, g.A) and torch.equal(f.B, g.B)
        for f, g in zip(first.modules.values(), second.modules.values(), strict=True)
    )


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", METHODS)
def test_the_callers_threads_change_no_bit(method, threads, monkeypatch):
    monkeypatch.setattr(elementwise, "TILE_ENTRIES", 1 << 12)
    adapters = [Adapter({"m": factors(seed, 160, 96, 8, dtype=torch.float32)}) for seed in range(4)]
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(run(method, adapters, [1.0, 0.5, 2.0, -0.3]).adapter)
        assert torch.get_num_threads() == count
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])


def test_the_callers_threads_come_back_after_an_error(threads):
    threads(3)
    with pytest.raises(UsageError):
        run("average", [adapter(1), adapter(2)], [1.0, -1.0])
    assert torch.get_num_threads() == 3


def test_the_callers_default_dtype_and_gradients_change_nothing():
    adapters = [adapter(1), adapter(2)]
    expected = {name: run(name, adapters).adapter for name in METHODS}
    for value in adapters:
        for f in value.modules.values():
            f.A.requires_grad_(True)
    torch.set_default_dtype(torch.float16)
    try:
        assert all(same_bits(run(name, adapters).adapter, expected[name]) for name in METHODS)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_stay_as_they_were(method):
    value = adapter(1)
    before = {m: (f.A.clone(), f.B.clone()) for m, f in value.modules.items()}
    run(method, [value, value])
    assert all(torch.equal(f.A, before[m][0]) and torch.equal(f.B, before[m][1]) for m, f in value.modules.items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_has_the_dtype_asked_for_scaling_1_and_its_own_memory(method, dtype):
    merged = run(method, [adapter(1, scaling=3.0), adapter(2)], dtype=dtype)
    exact = run(method, [adapter(1, scaling=3.0), adapter(2)])
    for f in merged.adapter.modules.values():
        assert (f.A.dtype, f.B.dtype, f.scaling) == (dtype, dtype, 1.0)
        assert f.A.is_contiguous()
        assert f.B.is_contiguous()
    assert distance(deltas(merged.adapter), deltas(exact.adapter)) < {torch.float32: 2e-7, torch.bfloat16: 1e-2}[dtype]


@pytest.mark.parametrize("method", ["ties", "svd"])
def test_half_precision_inputs_are_merged_as_float32_and_close_to_float64(method):
    halves = [Adapter({"m": factors(seed, 12, 8, 2, dtype=torch.bfloat16)}) for seed in (1, 2)]
    wider = {
        dtype: [Adapter({"m": Factors(A=(f := h.modules["m"]).A.to(dtype), B=f.B.to(dtype))}) for h in halves]
        for dtype in (torch.float32, torch.float64)
    }
    merged = run(method, halves).adapter
    assert same_bits(merged, run(method, wider[torch.float32]).adapter)
    assert distance(deltas(merged), deltas(run(method, wider[torch.float64]).adapter)) < 1e-6


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].keeps_rank])
def test_each_module_gets_its_largest_input_rank(method):
    adapters = [adapter(1, 2, ranks={"blocks.0.q": 5}), adapter(2, 3, skip=["blocks.1.down"])]
    merged = run(method, adapters)
    assert {m: f.rank for m, f in merged.adapter.modules.items()} == {"blocks.0.q": 5, "blocks.0.up": 3, "blocks.1.down": 2}
    assert merged.rank == 5


def test_cat_adds_the_ranks_up_and_loses_nothing():
    merged = run("cat", [adapter(1, 2), adapter(2, 7, skip=["blocks.0.q"])])
    assert {m: f.rank for m, f in merged.adapter.modules.items()} == {"blocks.0.q": 2, "blocks.0.up": 9, "blocks.1.down": 9}
    assert merged.residual == 0.0
    assert set(merged.module_residuals.values()) == {0.0}


@pytest.mark.parametrize("method", METHODS)
def test_an_explicit_rank_holds_for_every_method(method):
    merged = run(method, [adapter(1), adapter(2)], rank=1)
    assert merged.rank == 1
    assert 0.0 < merged.residual < 1.0


ENERGETIC = ["svd", "ties", "cat", "linear_factors"]


@pytest.mark.parametrize("method", ENERGETIC)
def test_a_rank_by_error_stays_within_it_in_every_module_and_one_less_would_not(method):
    adapters = [adapter(1, 4), adapter(2, 4)]
    merged = run(method, adapters, rank={"error": 0.4})
    assert all(0.0 <= residual <= 0.4 for residual in merged.module_residuals.values())
    assert same_bits(merged.adapter, run(method, adapters, rank={"energy": 1 - 0.4**2}).adapter)
    for module, f in merged.adapter.modules.items():
        if f.rank > 1:
            assert run(method, adapters, rank=f.rank - 1).module_residuals[module] > 0.4


def test_an_exact_rank_keeps_all_columns_and_refuses_what_is_dense():
    adapters = [adapter(1, 2), adapter(2, 3)]
    merged = run("average", adapters, rank="exact")
    assert {f.rank for f in merged.adapter.modules.values()} == {5}
    assert merged.residual == 0.0
    with pytest.raises(UsageError, match=r"rank exact: ties gives a dense delta in module 'blocks\.0\.q'"):
        run("ties", adapters, rank="exact")
    assert run("ties", adapters, rank="exact", options={"space": "core"}).rank == 5


@pytest.mark.parametrize("method", ["svd", "ties", "dare_ties", "tsv_m"])
def test_modules_merged_in_two_halves_are_those_of_the_whole(method):
    adapters = [adapter(seed) for seed in (1, 2, 3)]
    whole = run(method, adapters).adapter
    halves = [[Adapter({m: f for m, f in a.modules.items() if (m in chosen)}) for a in adapters] for chosen in SHARDS]
    joined = {m: f for half in halves for m, f in run(method, half).adapter.modules.items()}
    assert same_bits(Adapter(joined), whole)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(PlatformError, match="device 'no-such-device' cannot be used"):
        run("svd", [adapter(1)], device="no-such-device")


def test_kinds_and_kernels_are_carried():
    conv = [Adapter({"c": Factors(torch.randn(2, 18), torch.randn(4, 2), kind="conv", kernel=(3, 3))}) for _ in range(2)]
    merged = run("average", conv).adapter.modules["c"]
    assert (merged.kind, merged.kernel) == ("conv", (3, 3))


def test_the_base_model_is_kept_if_all_name_the_same():
    first, second = Adapter(adapter(1).modules, "base"), Adapter(adapter(2).modules, "base")
    assert run("cat", [first, second]).adapter.base_model == "base"
    assert run("cat", [first, adapter(2)]).adapter.base_model is None


def test_identical_extras_are_carried_and_others_refused_by_name():
    head, other = torch.ones(3), torch.zeros(3)
    first, same = Adapter(adapter(1).modules, extras={"head": head}), Adapter(adapter(2).modules, extras={"head": head.clone()})
    assert torch.equal(run("average", [first, same]).adapter.extras["head"], head)
    for second in (Adapter(adapter(2).modules, extras={"head": other}), adapter(2)):
        with pytest.raises(IncompatibleError, match="head"):
            run("average", [first, second])


def test_modules_of_different_shapes_are_refused():
    with pytest.raises(IncompatibleError, match="'m' has different shapes"):
        run("average", [Adapter({"m": factors(1, 4, 3, 2)}), Adapter({"m": factors(1, 3, 4, 2)})])


def test_progress_counts_the_modules():
    seen = []
    run("ties", [adapter(1), adapter(2)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "tise"}, "unknown merge method 'tise': did you mean 'ties'"),
        ({"method": "ties", "options": {"densty": 0.5}}, "no option 'densty': did you mean 'density'"),
        ({"method": "ties", "options": {"density": 0.0}}, "density: got 0.0, expected a number above 0 and at most 1"),
        ({"method": "ties", "options": {"density": "nan"}}, "density: got 'nan'"),
        ({"method": "ties", "options": {"scope": "layer"}}, "scope: got 'layer', expected module or model"),
        ({"method": "average", "options": {"scale": 1}}, "'average' has no option 'scale'"),
        ({"rank": 0}, "rank: got 0"),
        ({"weights": [1.0]}, "2 adapters, 1 weights and 2 names"),
        ({"names": ["a"]}, "2 adapters, 2 weights and 1 names"),
        ({"weights": [1.0, float("inf")]}, "weights must be finite"),
        ({"adapters": [], "weights": [], "names": []}, "at least one adapter"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {"method": "svd", "adapters": [adapter(1), adapter(2)], "weights": [1.0, 1.0], "names": digests(2), **arguments}
    method, adapters, weights = given.pop("method"), given.pop("adapters"), given.pop("weights")
    with pytest.raises(UsageError) as error:
        merge(method, adapters, weights, **given)
    assert message in str(error.value)


def test_an_unknown_method_lists_those_that_exist():
    with pytest.raises(UsageError) as error:
        run("tise", [adapter(1)])
    assert all(name in error.value.hint for name in METHODS)


def test_fixed_arithmetic_nests(threads):
    threads(4)
    with fixed_arithmetic():
        with fixed_arithmetic():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
