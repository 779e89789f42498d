"""What each method made for LoRA is known for: identities, edges, and adapters that have nothing to say."""

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.conditions import Conditions
from tests.merge import references_lora
from tests.merge.factories import adapter, deltas, distance, regauged, run

NAMES = [*references_lora.ON_DELTAS, *references_lora.ON_FACTORS]
UNLIKE = [adapter(1, 3, scaling=2.0), adapter(2, 4, scaling=0.5), adapter(3, 2, skip=["blocks.0.q"]), adapter(4, 3)]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]


def orthogonal(count, rank, d_out=24, d_in=18):
    """Adapters of one module whose deltas share no direction on either side."""
    draw = torch.Generator().manual_seed(0)
    Q, P = (torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q for d in (d_out, d_in))
    blocks = [slice(i * rank, (i + 1) * rank) for i in range(count)]
    sizes = torch.rand(rank, generator=draw, dtype=torch.float64) + 0.5
    return [Adapter({"m": Factors(A=P[:, block].T, B=Q[:, block] * sizes * (i + 1))}) for i, block in enumerate(blocks)]


def ta(adapters, weights=None, rank=9):
    return deltas(run("task_arithmetic", adapters, weights, rank=rank).adapter)


def test_tsv_of_orthogonal_adapters_is_their_sum():
    adapters = orthogonal(3, 5)
    assert distance(deltas(run("tsv_m", adapters, rank=18).adapter), ta(adapters, rank=18)) < 1e-12


def test_tsv_keeps_no_more_directions_than_the_smaller_side_has_and_reports_what_it_cut():
    """Two of rank 5 in 9 dimensions: ⌊9/2⌋ = 4 of each."""
    merged = run("tsv_m", [adapter(1, 5), adapter(2, 5)], rank=9)
    assert all(np.linalg.matrix_rank(value) == 8 for value in deltas(merged.adapter).values())
    assert 0.0 < merged.report["cut_error"] < 0.5
    assert run("tsv_m", [adapter(1, 4), adapter(2, 4)]).report["cut_error"] == 0.0


def test_copies_count_once_for_tsv_while_all_their_directions_fit():
    for copies in ([adapter(1, 2)] * 4, [regauged(adapter(1, 2), seed) for seed in range(4)]):
        assert distance(deltas(run("tsv_m", copies, rank=9).adapter), deltas(adapter(1, 2))) < 1e-12


@pytest.mark.parametrize(("name", "options"), [("iso_c", {}), ("iso_cts", {}), ("iso_cts", {"common_space_fraction": 0.3})])
def test_all_singular_values_of_iso_are_equal(name, options):
    merged = run(name, [adapter(1, 2), adapter(2, 2), adapter(3, 2)], options=options, rank=9)
    for value in deltas(merged.adapter).values():
        S = np.linalg.svd(value, compute_uv=False)
        assert S[6:].max() < 1e-12 * S[0]  # the numerical rank is 6, and stays
        np.testing.assert_allclose(S[:6], S[0], rtol=1.001e-6)
        assert np.linalg.norm(value) == pytest.approx(6**0.5 * S[0])


def test_the_mean_of_iso_c_is_over_the_rank_and_not_over_the_side():
    """The authors' own mean over all q = 9 values would be R/q of it."""
    three = [adapter(1, 2), adapter(2, 2), adapter(3, 2)]
    for module, value in deltas(run("iso_c", three, rank=9).adapter).items():
        over_the_side = np.linalg.svd(ta(three)[module], compute_uv=False).mean()
        assert over_the_side / np.linalg.norm(value, 2) == pytest.approx(6 / 9)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_iso_cts_of_one_adapter_is_iso_c(fraction):
    one = run("iso_cts", [adapter(1, 4)], options={"common_space_fraction": fraction})
    assert distance(deltas(one.adapter), deltas(run("iso_c", [adapter(1, 4)]).adapter)) < 1e-12


def test_cart_without_its_second_term_or_without_a_cut_is_the_average():
    three = [adapter(1), adapter(2), adapter(3)]
    average = deltas(run("average", three, rank=9).adapter)
    for options in ({"scale": 0.0}, {"pruning_rank": 1.0, "scale": 5.0}):
        assert distance(deltas(run("cart", three, options=options, rank=9).adapter), average) < 1e-12
    assert distance(deltas(run("cart", three, rank=9).adapter), average) > 1e-3


def test_cart_needs_weights_with_a_sum():
    with pytest.raises(UsageError, match=r"cart: the weights .*sum to 0"):
        run("cart", [adapter(1), adapter(2)], [1.0, -1.0])


def test_everything_kept_and_no_signs_against_each_other_in_knots_is_the_mean():
    """TIES is linear where all entries agree."""
    two = [adapter(1), Adapter({m: Factors(A=f.A, B=f.B * 3.0) for m, f in adapter(1).modules.items()})]
    for name in ("knots", "core_space"):
        merged = run(name, two, options={"density": 1.0, "scale": 1.0})
        assert distance(deltas(merged.adapter), {m: 2.0 * value for m, value in deltas(adapter(1)).items()}) < 1e-7


@pytest.mark.parametrize("space", ["knots", "core"])
def test_a_linear_rule_in_these_spaces_is_task_arithmetic(space):
    merged = run("dare_linear", UNLIKE, WEIGHTS, options={"density": 1.0, "space": space}, rank=9)
    assert distance(deltas(merged.adapter), ta(UNLIKE, WEIGHTS)) < 1e-7


def test_the_named_spaces_are_ties_in_them():
    three = [adapter(1), adapter(2), adapter(3)]
    for name, options in {
        "knots": {"space": "knots", "density": 0.2, "scope": "model", "scale": 0.6},
        "core_space": {"space": "core", "density": 0.1},
    }.items():
        named, ties = run(name, three, WEIGHTS[:3]), run("ties", three, WEIGHTS[:3], options=options)
        assert distance(deltas(named.adapter), deltas(ties.adapter)) == 0.0


def test_compress_then_merge_with_room_for_all_is_the_rule_itself():
    three, options = [adapter(1, 2), adapter(2, 3), adapter(3, 2)], {"rule": "sum", "lora_rank": 7, "scale": 1.0}
    merged = run("compress_then_merge", three, WEIGHTS[:3], options=options)
    assert distance(deltas(merged.adapter), ta(three, WEIGHTS[:3])) < 1e-12
    assert merged.report["subspace_error"] < 1e-7
    iso = run("compress_then_merge", three, options={**options, "rule": "iso"})
    assert distance(deltas(iso.adapter), deltas(run("iso_c", three, rank=9).adapter)) < 1e-12


def test_compress_then_merge_has_its_rank_by_construction_and_reports_what_lies_outside():
    merged = run("compress_then_merge", UNLIKE, WEIGHTS, options={"lora_rank": 2})
    assert {f.rank for f in merged.adapter.modules.values()} == {2}
    assert merged.residual == 0.0 and 0.2 < merged.report["subspace_error"] < 1.0


def test_lego_with_a_cluster_for_every_unit_is_task_arithmetic():
    three = [adapter(1, 2), adapter(2, 3), adapter(3, 4)]
    merged = run("lora_lego", three, WEIGHTS[:3], options={"lora_rank": 9})
    assert distance(deltas(merged.adapter), ta(three, WEIGHTS[:3])) < 1e-12


def test_lego_of_n_copies_is_root_n_times_the_adapter_whatever_the_signs_of_the_units():
    flips = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    turned = Adapter({m: Factors(A=flips.unsqueeze(1) * f.A, B=f.B * flips) for m, f in adapter(1, 3).modules.items()})
    merged = run("lora_lego", [adapter(1, 3), turned, adapter(1, 3), turned])
    assert distance(deltas(merged.adapter), {m: 2.0 * value for m, value in deltas(adapter(1, 3)).items()}) < 1e-12
    assert merged.rank == 3


def test_lego_ignores_how_a_unit_is_split_between_its_sides():
    stretch = torch.tensor([3.0, 0.1, 1.0], dtype=torch.float64)
    other = Adapter({m: Factors(A=f.A / stretch.unsqueeze(1), B=f.B * stretch) for m, f in adapter(1, 3).modules.items()})
    first, second = (run("lora_lego", [value, adapter(2, 3)], seed=4) for value in (adapter(1, 3), other))
    assert distance(deltas(second.adapter), deltas(first.adapter)) < 1e-12


def test_robust_merge_of_one_adapter_with_everything_kept_is_four_times_it():
    """As coded: the fuse weight 2 stands in both factors."""
    merged = run("robust_merge", [adapter(1)], options={"mask_ratio": 1.0})
    assert distance(deltas(merged.adapter), {m: 4.0 * value for m, value in deltas(adapter(1)).items()}) < 1e-12


def test_robust_merge_refuses_unequal_ranks_and_names_them():
    with pytest.raises(IncompatibleError, match=r"blocks\.0\.q.*\[2, 3\]"):
        run("robust_merge", [adapter(1, 3), adapter(2, 2)])


@pytest.mark.parametrize("name", NAMES)
def test_a_module_that_an_adapter_lacks_can_be_left_to_the_others(name):
    options = {"scope": "module"} if name == "knots" else {}
    third, shared = adapter(3, 3, skip=["blocks.0.q"]), Conditions(absent="renormalize")
    found = run(name, [adapter(1, 3), adapter(2, 3), third], options=options, conditions=shared)
    pair = run(name, [adapter(1, 3), adapter(2, 3)], [1.5, 1.5], options=options)
    one, two = ({"q": deltas(merged.adapter)["blocks.0.q"]} for merged in (found, pair))
    assert distance(one, two) < 1e-7


def silent(original):
    """The same modules with B = 0, as before training."""
    return Adapter({m: Factors(A=f.A, B=f.B * 0.0, scaling=f.scaling) for m, f in original.modules.items()})


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_of_zeros_changes_nothing_but_the_mean_of_cart(name):
    pair, extra = [adapter(1, 3), adapter(2, 3)], silent(adapter(3, 3))
    first, second = (deltas(run(name, adapters).adapter) for adapters in (pair, [*pair, extra]))
    assert (distance(second, first) < 1e-12) == (name != "cart")


@pytest.mark.parametrize("name", NAMES)
def test_a_merge_of_nothing_is_nothing(name):
    merges = [run(name, [silent(adapter(1))])]
    if name != "cart":  # there is no average with weights 0
        merges.append(run(name, [adapter(1), adapter(2)], [0.0, 0.0]))
    for merged in merges:
        assert merged.residual == 0.0
        assert all(not value.any() for value in deltas(merged.adapter).values())


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "core_space"]
)  # a share of its entries: twice as many with twice the rank
def test_float32_inputs_and_copies_that_differ_by_rounding_stay_finite_and_close(name):
    """A re-gauged copy in float32 adds directions of the size of its rounding: they must not count as directions."""
    copies = (
        [adapter(1, 3), regauged(adapter(1, 3), 1)] if name != "lora_lego" and name != "robust_merge" else [adapter(1, 3)] * 2
    )
    rounded = [
        Adapter({m: Factors(A=f.A.float(), B=f.B.float(), scaling=f.scaling) for m, f in a.modules.items()}) for a in copies
    ]
    exact, found = (deltas(run(name, adapters).adapter) for adapters in (copies, rounded))
    assert distance(found, exact) < 1e-4
