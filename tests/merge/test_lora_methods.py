"""The methods made for LoRA, each against its slow float64 reference and against a 2×2 case computed by hand."""

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import METHODS
from tests.merge import references_lora
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

UNLIKE = [
    adapter(1, 3, scaling=2.0),
    adapter(2, 4, scaling=0.5, ranks={"blocks.0.up": 2}),
    adapter(3, 2, scaling=1.5, skip=["blocks.0.q"]),
    adapter(4, 3, scaling=1.0, skip=["blocks.1.down"]),
]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]
EQUAL = [adapter(5, 4, scaling=2.0), adapter(6, 4, skip=["blocks.0.q"]), adapter(7, 4, scaling=0.5), adapter(8, 4)]
OPTIONS = {
    "tsv_m": [{"scale": 0.3}],
    "iso_c": [{"scale": 1.5}],
    "iso_cts": [{"common_space_fraction": 0.4, "scale": 1.5}, {"common_space_fraction": 0.0}, {"common_space_fraction": 1.0}],
    "cart": [{"pruning_rank": 0.3, "scale": 2.0}],
    "compress_then_merge": [
        {"rule": "sum", "beta": 1.0, "lora_rank": 3},
        {"rule": "dare_ties", "beta": 0.0, "dare_density": 0.5, "density": 0.6, "scale": 1.3},
        {"rule": "tsv", "lora_rank": 8},
        {"rule": "iso", "lora_rank": 2},
    ],
    "knots": [{"density": 0.6, "scope": "module", "scale": 1.3}, {"density": 1.0, "normalize": "weights"}],
    "core_space": [{"density": 0.5, "scope": "model", "scale": 0.2}, {"density": 1.0}],
    "lora_lego": [{"lora_rank": 6}, {"lora_rank": 2, "n_init": 1}, {"lora_rank": 99}],
    "robust_merge": [{"mask_ratio": 0.6, "att_ratio": 0.5, "fuse_weight": 0.7}, {"mask_ratio": 1.0, "att_ratio": 1.0}],
}
ON_DELTAS = [(name, options) for name in references_lora.ON_DELTAS for options in [{}, *OPTIONS[name]]]
ON_FACTORS = [(name, options) for name in references_lora.ON_FACTORS for options in [{}, *OPTIONS[name]]]


def stacked(adapters):
    each = [deltas(value) for value in adapters]
    return {m: [d.get(m, np.zeros(DIMS[m])) for d in each] for m in DIMS}


def paired(adapters):
    return {
        m: [((f := a.modules[m]).scaling * f.B.numpy(), f.A.numpy()) if m in a.modules else None for a in adapters]
        for m in DIMS
    }


@pytest.mark.parametrize(("name", "options"), ON_DELTAS)
def test_equals_its_dense_reference(name, options):
    expected = references_lora.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 11, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, seed=11, rank=9)  # 9 = the smaller side: nothing is cut
    assert distance(deltas(merged.adapter), expected) < (1e-6 if "iso" in {name[:3], options.get("rule")} else 1e-9)  # the tilt


@pytest.mark.parametrize(("name", "options"), ON_FACTORS)
def test_equals_its_reference_on_factors(name, options):
    expected = references_lora.ON_FACTORS[name](paired(EQUAL), WEIGHTS, digests(4), 11, **options)
    merged = run(name, EQUAL, WEIGHTS, options=options, seed=11)
    assert distance(deltas(merged.adapter), expected) < 1e-12


def test_lego_takes_unequal_ranks():
    expected = references_lora.lora_lego(paired(UNLIKE), WEIGHTS, digests(4), 3, lora_rank=3)
    merged = run("lora_lego", UNLIKE, WEIGHTS, options={"lora_rank": 3}, seed=3)
    assert distance(deltas(merged.adapter), expected) < 1e-12
    assert merged.rank == 3


ROOT = 10**0.5
DIAGONALS = [[[6.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 6.0]], [[0.0, 0.0], [0.0, -3.0]]]
CROSSED = [[[4.0, 0.0], [0.0, 0.0]], [[0.0, 1.8], [0.0, 2.4]]]  # 4·e₁e₁ᵀ and 3·(0.6, 0.8)e₂ᵀ: the left vectors are at 53.13°
BY_HAND = [
    # The nearest orthonormal pair lies at ±45° of the bisector (2, 1)/√5: (3, −1)/√10 and (1, 3)/√10.
    ("tsv_m", CROSSED, {}, [[12 / ROOT, 3 / ROOT], [-4 / ROOT, 9 / ROOT]]),
    ("iso_c", [[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]], {"scale": 2.0}, [[6.0, 0.0], [0.0, 6.0]]),
    # No common direction: round((2 − 0)/2) = 1 for each task, the mean of 4 and 3 is 3.5.
    ("iso_cts", CROSSED, {"common_space_fraction": 0.0}, [[10.5 / ROOT, 3.5 / ROOT], [-3.5 / ROOT, 10.5 / ROOT]]),
    # The mean is diag(2, 1); the deltas less the mean are diag(4, −1), diag(−2, 5), diag(−2, −4), cut diag(4, 0) and so on.
    ("cart", DIAGONALS, {}, [[2.4, 0.0], [0.0, 1.1]]),
    # The best pair of directions for diag(6, 0) and diag(0, 5) is e₁ and e₁; λ = 0.75.
    (
        "compress_then_merge",
        [DIAGONALS[0], [[0.0, 0.0], [0.0, 5.0]]],
        {"lora_rank": 1, "rule": "sum", "beta": 1.0},
        [[4.5, 0], [0, 0]],
    ),
    # Both bases are the axes, as all deltas are diagonal: of 4 and −1 at one place the sign of the sum, 4, stays.
    ("knots", [[[4.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [0.0, 2.0]]], {"density": 0.5}, [[2.4, 0.0], [0.0, 1.5]]),
    ("core_space", [[[4.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [0.0, 2.0]]], {"density": 0.25}, [[4.0, 0.0], [0.0, 2.0]]),
]


def of_matrix(matrix):
    return Adapter({"m": Factors(A=torch.eye(2, dtype=torch.float64), B=torch.tensor(matrix, dtype=torch.float64))})


@pytest.mark.parametrize(("name", "matrices", "options", "expected"), BY_HAND)
def test_by_hand(name, matrices, options, expected):
    merged = run(name, [of_matrix(matrix) for matrix in matrices], options=options, rank=2)
    np.testing.assert_allclose(deltas(merged.adapter)["m"], expected, atol=1e-5 if "iso" in name else 1e-6)


def of_factors(left, right):
    return Adapter({"m": Factors(A=torch.tensor(right, dtype=torch.float64), B=torch.tensor(left, dtype=torch.float64))})


def test_lego_by_hand():
    """Balanced the units are (2, 0; 2, 0) and −(1, 0; 1, 0): one cluster, mean 1.5, of the right size already, and √(2/1)."""
    pair = [of_factors([[4.0], [0.0]], [[1.0, 0.0]]), of_factors([[-1.0], [0.0]], [[-1.0, 0.0]])]
    merged = run("lora_lego", pair, options={"lora_rank": 1})
    np.testing.assert_allclose(deltas(merged.adapter)["m"], [[2.25 * 2**0.5, 0.0], [0.0, 0.0]], atol=1e-12)


def test_robust_merge_by_hand():
    """Half kept: what is at least the ⌊4·0.5⌋ = 2nd smallest of each factor, so three entries.

    Of A the rows (4, 1) and (2, 3) keep (4, 0) and (2, 3), scales 5/4 and 1; floored at the unit of place ⌊2·0.5⌋ = 1 of
    (1, 5/4): both are 5/4, and cancel in B for a single adapter. B keeps (8, 2) and (0, 6).
    """
    merged = run("robust_merge", [of_factors([[8.0, 2.0], [1.0, 6.0]], [[4.0, 1.0], [2.0, 3.0]])],
                 options={"mask_ratio": 0.5, "att_ratio": 0.5, "fuse_weight": 1.0})  # fmt: skip
    np.testing.assert_allclose(deltas(merged.adapter)["m"], [[36.0, 6.0], [12.0, 18.0]], atol=1e-12)


def test_every_method_made_for_lora_has_a_reference_options_and_a_case_by_hand():
    named = {*references_lora.ON_DELTAS, *references_lora.ON_FACTORS}
    assert named == set(OPTIONS) == {case[0] for case in BY_HAND} | {"lora_lego", "robust_merge"}
    assert named <= set(METHODS)
