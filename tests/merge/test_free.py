"""Data-free methods that choose, cluster, align or descend: references, cases by hand, and the identities of each."""

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import METHODS
from tests.merge import references, references_free
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

UNLIKE = [
    adapter(1, 3, scaling=2.0),
    adapter(2, 4, scaling=0.5, ranks={"blocks.0.up": 2}),
    adapter(3, 2, scaling=1.5, skip=["blocks.0.q"]),
    adapter(4, 5, scaling=1.0, skip=["blocks.1.down"]),
]
ALIKE = [adapter(1, 4), adapter(2, 4, scaling=2.0), adapter(3, 4, scaling=0.5)]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]
CASES = [
    ("metrics_weighted", {}),
    ("greedy_soup", {}),
    ("final_average", {}),
    ("layer_assembly", {}),
    ("layer_assembly", {"by": "weights"}),
    ("opcm", {}),
    ("opcm", {"alpha": 0.9, "k_max": 9}),
    ("opcm", {"alpha": 0.2, "k_max": 2}),
    ("pcb", {}),
    ("pcb", {"pcb_ratio": 0.4, "clamp": 0.05, "scope": "model"}),
    ("pcb", {"pcb_ratio": 1.0, "clamp": 0.01}),
    ("doge", {}),
    ("doge", {"steps": 20, "K": 1.0, "lr": 1e-2, "scope": "module"}),
    ("doge", {"steps": 5, "eta": 1.0, "subspace": 2}),
]


def stacked(adapters):
    """Dense deltas by module, one of zeros for every adapter that lacks it."""
    each = [deltas(value) for value in adapters]
    return {m: [d.get(m, np.zeros(DIMS[m])) for d in each] for m in DIMS}


def pairs(adapters, module):
    return [((f := value.modules[module]).scaling * f.B.numpy(), f.A.numpy()) for value in adapters]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equals_its_dense_reference(name, options):
    expected = references_free.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 0, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, rank=9)  # 9 = the smaller side: nothing is cut
    assert distance(deltas(merged.adapter), expected) < (1e-7 if METHODS[name].kind in ("elementwise", "dense") else 1e-11)


@pytest.mark.parametrize("shared_rank", [0, 1, 6])
def test_sub_moe_equals_its_reference(shared_rank):
    ranks = {m: max(a.modules[m].rank for a in UNLIKE if m in a.modules) for m in DIMS}
    expected = references_free.sub_moe(stacked(UNLIKE), WEIGHTS, [], 0, shared_rank, ranks)
    merged = run("sub_moe", UNLIKE, WEIGHTS, options={"shared_rank": shared_rank}, rank=9)
    assert distance(deltas(merged.adapter), expected) < 1e-12
    mean = references_free.weighted_mean(stacked(UNLIKE), WEIGHTS, [], 0)
    assert merged.report["outside"] == pytest.approx(distance(expected, mean), rel=1e-9)


@pytest.mark.parametrize("weights", [[1.0, 0.5, 2.0], [1.0, 0.5, -0.7]])
def test_mc_smoe_equals_its_reference(weights):
    merged = run("mc_smoe", ALIKE, weights, options={"low_rank_factor": 2, "rows": 3})
    expected = {m: references_free.mc_smoe(pairs(ALIKE, m), weights, 2, 3) for m in DIMS}
    assert distance(deltas(merged.adapter), expected) < 1e-12
    assert {f.rank for f in merged.adapter.modules.values()} == {2 + 3}


@pytest.mark.parametrize("ratio", [1e-9, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 0.5, 2.0], [1.0, 0.5, -0.7]])
def test_pleas_equals_its_reference(ratio, weights):
    merged = run("pleas_data_free", ALIKE, weights, options={"ratio": ratio})
    expected = {m: references_free.pleas_data_free(pairs(ALIKE, m), weights, ratio) for m in DIMS}
    assert distance(deltas(merged.adapter), expected) < 1e-12
    joined = round(4 * ratio)
    assert merged.rank == joined + 3 * (4 - joined)


def of_matrix(matrix):
    return Adapter({"m": Factors(A=torch.eye(2, dtype=torch.float64), B=torch.tensor(matrix, dtype=torch.float64))})


def of_units(B, A):
    return Adapter({"m": Factors(A=torch.tensor(A, dtype=torch.float64), B=torch.tensor(B, dtype=torch.float64))})


FIRST, SECOND = of_matrix([[4.0, -1.0], [2.0, 0.0]]), of_matrix([[-2.0, -3.0], [2.0, 1.0]])
# Balanced, the units of TURNED are (√2, √2) and (√3, √3) on the axes, in another order and with other signs than STRAIGHT's
# (2, 2) and (1, 1); so the means of the matched units are ((2 + √2)/2)² and ((1 + √3)/2)².
STRAIGHT, TURNED = (
    of_units([[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]),
    of_units([[0.0, -2.0], [3.0, 0.0]], [[0.0, 1.0], [-1.0, 0.0]]),
)
MATCHED = [[((2 + 2**0.5) / 2) ** 2, 0.0], [0.0, ((1 + 3**0.5) / 2) ** 2]]
# opcm: U and V of diag(2, 1) are the axes, so only the diagonal of [[5, 3], [4, 7]] goes: [[2, 3], [4, 1]], norm √30, set
# to the mean of √5 and √99.
SET = (5**0.5 + 99**0.5) / 2 / 30**0.5
BY_HAND = [
    ("metrics_weighted", [FIRST, SECOND], [0.25, 0.75], {}, [[-0.5, -2.5], [2.0, 0.75]]),
    ("greedy_soup", [FIRST, SECOND], [1, 0], {}, [[4.0, -1.0], [2.0, 0.0]]),
    ("final_average", [FIRST, SECOND], [1, 1], {}, [[1.0, -2.0], [2.0, 0.5]]),
    ("sparse_soup", [of_matrix([[4, 0], [2, 0]]), of_matrix([[-2, 0], [2, 0]])], [1, 1], {}, [[1.0, 0.0], [2.0, 0.0]]),
    ("layer_assembly", [FIRST, SECOND], [2, 1], {}, [[8.0, -2.0], [4.0, 0.0]]),
    ("layer_assembly", [FIRST, SECOND], [2, -3], {"by": "weights"}, [[6.0, 9.0], [-6.0, -3.0]]),
    ("opcm", [of_matrix([[2, 0], [0, 1]]), of_matrix([[5, 3], [4, 7]])], [1, 1], {}, [[2 * SET, 3 * SET], [4 * SET, SET]]),
    # Sizes clamped to [0, 2] and [1, 2]; scores e²·tanh 8, e^½·tanh 4, e²·tanh 8, 0 and e²·tanh −4, e²·tanh 12, e²·tanh 8,
    # tanh 1; the floor is the second smallest, so FIRST wins in its first column and SECOND in (0, 1) and (1, 0).
    ("pcb", [FIRST, SECOND], [1, 1], {"pcb_ratio": 0.75}, [[2.0, -2.0], [2.0, 0.0]]),
    ("doge", [FIRST, SECOND], [1, 1], {"steps": 0, "eta": 1.0, "K": 0.5},
     [[4 / 21**0.5 - 2 / 18**0.5, -3 / 18**0.5], [2 / 21**0.5 + 2 / 18**0.5, 0.0]]),
    # One adapter, λ = ½: the gradient is −‖row‖²·τ/2, and Adam's first step is its sign.
    ("doge", [FIRST], [1], {"steps": 1, "lr": 0.1, "eta": 21**0.5 / 2, "K": 1.0}, [[2.05, -0.55], [1.05, 0.0]]),
    # [diag(2, 0) | diag(0, 1)] has the singular value 2 along the first axis; the mean diag(1, ½) is cut to it.
    ("sub_moe", [of_matrix([[2, 0], [0, 0]]), of_matrix([[0, 0], [0, 1]])], [1, 1], {"shared_rank": 1}, [[1, 0], [0, 0]]),
    ("mc_smoe", [STRAIGHT, TURNED], [1, 1], {"low_rank_factor": 1, "rows": 1}, MATCHED),
    ("pleas_data_free", [STRAIGHT, TURNED], [1, 1], {"ratio": 1.0}, MATCHED),
    ("pleas_data_free", [STRAIGHT, TURNED], [1, 1], {"ratio": 0.5}, [[MATCHED[0][0], 0.0], [0.0, 2.0]]),
]  # fmt: skip
NAMES = {case[0] for case in BY_HAND}


def test_no_method_is_without_a_case_by_hand():
    assert {*METHODS} >= references_free.NAMES == NAMES


@pytest.mark.parametrize(("name", "adapters", "weights", "options", "expected"), BY_HAND)
def test_by_hand(name, adapters, weights, options, expected):
    merged = run(name, adapters, weights, options=options)
    np.testing.assert_allclose(deltas(merged.adapter)["m"], expected, atol=1e-7)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_zero_adapter_among_others_gives_finite_numbers(name):
    zero = Adapter({m: Factors(A=f.A * 0.0, B=f.B * 0.0) for m, f in ALIKE[0].modules.items()})
    alone = run(name, [zero])
    assert all(not delta.any() for delta in deltas(alone.adapter).values())
    mixed = [ALIKE[0], zero, ALIKE[1]] if name != "sparse_soup" else [zero, zero]
    assert all(np.isfinite(delta).all() for delta in deltas(run(name, mixed).adapter).values())


@pytest.mark.parametrize("name", sorted(NAMES - {"sparse_soup", "mc_smoe"}))
def test_adapters_of_other_ranks_and_modules_are_merged(name):
    merged = run(name, UNLIKE, WEIGHTS)
    assert merged.adapter.modules.keys() == DIMS.keys()


def test_pcb_in_knots_space_is_pcb_of_the_aligned_right_vectors():
    merged = deltas(run("pcb", UNLIKE, WEIGHTS, options={"space": "knots"}, rank=9).adapter)
    for module, stack in stacked(UNLIKE).items():
        U, S, _ = np.linalg.svd(np.concatenate(stack, axis=1), full_matrices=False)
        U = U[:, S > 1e-9]
        inside = references_free.pcb({module: [U.T @ delta for delta in stack]}, WEIGHTS, [], 0)
        assert distance({module: merged[module]}, {module: U @ inside[module]}) < 1e-7


def test_pcb_of_copies_keeps_the_winners_of_one():
    copies = run("pcb", [ALIKE[0]] * 3, options={"pcb_ratio": 0.2, "clamp": 1e-4}, rank=9)
    for module, found in deltas(copies.adapter).items():
        original = deltas(ALIKE[0])[module]
        size = references_free.clamped(np.abs(original).ravel(), 1e-4, 1e-4).reshape(original.shape)
        kept = np.abs(found) > 1e-9
        np.testing.assert_allclose(found[kept], (np.sign(original) * size)[kept], atol=1e-7)
        assert 0 < kept.sum() <= 0.2 * original.size


def test_pcb_an_entry_against_all_others_loses():
    dense = [np.array(deltas(ALIKE[0])["blocks.0.q"]) for _ in range(3)]
    place = np.unravel_index(np.abs(dense[0]).argmax(), dense[0].shape)
    dense[2][place] *= -1.0
    adapters = [Adapter({"m": Factors(A=torch.eye(9, dtype=torch.float64), B=torch.from_numpy(each))}) for each in dense]
    merged = deltas(run("pcb", adapters, rank=9).adapter)["m"]
    largest = np.sort(np.abs(dense[0]).ravel())[-2]  # the clamp
    assert merged[place] == pytest.approx(np.sign(dense[0][place]) * largest)


def test_doge_lowers_its_loss_and_without_steps_is_masked_task_arithmetic():
    merged = run("doge", ALIKE, options={"steps": 100, "lr": 1e-2})
    assert 0.5 < merged.report["loss"] < 0.96
    start = run("doge", ALIKE, options={"steps": 0, "K": 1.0}, rank=9)
    assert start.report["loss"] == 1.0
    each = [deltas(value) for value in ALIKE]
    expected = {m: sum(0.07 * d[m] / np.linalg.norm(d[m]) for d in each) for m in DIMS}
    assert distance(deltas(start.adapter), expected) < 1e-7


def test_doge_moves_only_outside_of_the_shared_space_where_the_sign_of_adam_allows():
    """Adam's steps are no combinations of projected gradients, so a part comes back; plain gradients would leave none."""
    stack = [deltas(value)["blocks.1.down"] for value in ALIKE]
    _, d = references_free.doge_module(stack, [1.0] * 3, 50, 0.07, 1e-3, 2)
    P = references_free.doge_shared_space(stack, 2)
    assert 0.0 < np.linalg.norm(P @ d) < np.linalg.norm(d - P @ d)


def test_sub_moe_without_a_cut_is_the_weighted_mean():
    merged = run("sub_moe", UNLIKE, WEIGHTS, options={"shared_rank": 99}, rank=9)
    assert distance(deltas(merged.adapter), references_free.weighted_mean(stacked(UNLIKE), WEIGHTS, [], 0)) < 1e-12
    assert merged.report["outside"] < 1e-7


def test_mc_smoe_gets_closer_with_rank_and_with_rows_and_is_exact_with_all():
    lost = {
        (k, rows): run("mc_smoe", ALIKE, options={"low_rank_factor": k, "rows": rows}).report["residual_rows"]
        for k in (1, 2, 3)
        for rows in (1, 4, 20)
    }
    for k in (1, 2, 3):
        assert lost[k, 1] > lost[k, 4] > lost[k, 20] == pytest.approx(0.0, abs=1e-7)
    assert lost[1, 4] > lost[2, 4] > lost[3, 4]


def test_pleas_goes_from_the_exact_average_to_that_of_aligned_factors():
    exact = run("pleas_data_free", ALIKE, options={"ratio": 1e-9})
    assert distance(deltas(exact.adapter), references_free.weighted_mean(stacked(ALIKE), [1.0] * 3, [], 0)) < 1e-12
    errors = [
        distance(deltas(run("pleas_data_free", ALIKE, options={"ratio": ratio}).adapter), deltas(exact.adapter))
        for ratio in (0.25, 0.5, 1.0)
    ]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("by", ["depth", "weights"])
def test_an_assembly_is_the_chosen_adapters_own_factors(by):
    first, second = adapter(1, 3), adapter(2, 5)
    merged = run("layer_assembly", [first, second], [1.0, 2.0], options={"by": by}).adapter
    for module, f in merged.modules.items():
        chosen, weight = (second, 2.0) if by == "weights" or module.startswith("blocks.1") else (first, 1.0)
        assert torch.equal(f.B, chosen.modules[module].B * weight)
        assert torch.equal(f.A, chosen.modules[module].A)


def test_ranges_of_layers_are_contiguous_and_even():
    layers = [f"layers.{number}.q" for number in (0, 1, 2, 10, 11, 12)]
    made = [Adapter({m: of_matrix([[float(i), 0], [0, 0]]).modules["m"] for m in [*layers, "embed"]}) for i in (1, 2, 3)]
    merged = deltas(run("layer_assembly", made).adapter)
    assert [merged[m][0, 0] for m in layers] == [1, 1, 2, 2, 3, 3]
    assert merged["embed"][0, 0] == 1


def test_an_assembly_by_equal_weights_is_refused():
    with pytest.raises(UsageError, match=r"2 adapters have the weight 1 in module 'blocks\.0\.q'"):
        run("layer_assembly", ALIKE[:2], options={"by": "weights"})


def test_an_assembly_of_nothing_is_refused():
    with pytest.raises(UsageError, match="every weight is 0"):
        run("layer_assembly", ALIKE[:2], [0.0, 0.0])


def test_the_final_average_reports_the_covariance_of_the_factors():
    merged = run("final_average", ALIKE, [1.0, 2.0, 3.0])
    mean = references_free.weighted_mean(stacked(ALIKE), [1.0, 2.0, 3.0], [], 0)
    apart = run("linear_factors", ALIKE, [1.0, 2.0, 3.0])
    assert merged.report["covariance_term"] == pytest.approx(distance(deltas(apart.adapter), mean), rel=1e-9)
    each = [deltas(value) for value in ALIKE]
    spread = sum(w * references_free.norm({m: d[m] - mean[m] for m in d}) ** 2 for w, d in zip([1, 2, 3], each, strict=True))
    size = sum(w * references_free.norm(d) ** 2 for w, d in zip([1, 2, 3], each, strict=True))
    assert merged.report["consensus_distance"] == pytest.approx((spread / size) ** 0.5)


def test_workers_that_share_A_have_no_covariance_term():
    shared = [Adapter({m: Factors(A=ALIKE[0].modules[m].A, B=f.B) for m, f in value.modules.items()}) for value in ALIKE]
    merged = run("final_average", shared)
    assert merged.report["covariance_term"] < 1e-12
    assert merged.residual < 1e-12
    assert merged.report["consensus_distance"] > 0.1


def masked(seed, pattern=0, rank=4):
    draw = torch.Generator().manual_seed(pattern)
    modules = {}
    for name, f in adapter(seed, rank).modules.items():
        keep = [torch.rand(side.shape, generator=draw) < 0.5 for side in (f.A, f.B)]
        modules[name] = Factors(A=f.A * keep[0], B=f.B * keep[1])
    return Adapter(modules)


def test_a_sparse_soup_is_as_sparse_as_its_mask():
    members = [masked(seed) for seed in (1, 2, 3)]
    merged = run("sparse_soup", members, [1.0, 2.0, 0.5])
    expected = references.linear_factors({m: pairs(members, m) for m in DIMS}, [1.0, 2.0, 0.5])
    assert distance(deltas(merged.adapter), expected) < 1e-13
    for module, f in merged.adapter.modules.items():
        assert torch.equal(f.A != 0.0, members[0].modules[module].A != 0.0)
        assert torch.equal(f.B != 0.0, members[0].modules[module].B != 0.0)
    assert merged.report["cross_term_error"] > 0.1


def test_adapters_of_other_masks_or_ranks_make_no_sparse_soup():
    with pytest.raises(IncompatibleError, match=r"share no mask in 'blocks\.0\.q': \d+ of 48 entries of lora_B are zero"):
        run("sparse_soup", [masked(1), masked(2, pattern=1)])
    with pytest.raises(IncompatibleError, match=r"share no mask in 'blocks\.0\.q': rank 3 against 4"):
        run("sparse_soup", [masked(1), masked(2, rank=3)])
