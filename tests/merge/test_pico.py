"""Pico: shared output directions are damped, private ones are not, and the size comes back at the end."""

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.preparation import Prepare
from adapterbank.merge.preparations.pico import compensated, pico
from tests.merge import references_lora
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

PICO = Conditions(prepare=(Prepare.of("pico"),))
UNLIKE = [adapter(1, 3, scaling=2.0), adapter(2, 4, scaling=0.5), adapter(3, 2, skip=["blocks.0.q"])]


def stacks(adapters, weights=None):
    return list(Inputs.of(adapters, weights or [1.0] * len(adapters), digests(len(adapters)), 0))


def of_rank_one(*pairs):
    return [Adapter({"m": Factors(A=torch.tensor([a]).double(), B=torch.tensor([b]).double().T)}) for b, a in pairs]


def test_equals_its_reference_on_dense_factors():
    for stack in stacks(UNLIKE):
        present = [i for i in range(len(stack)) if stack.lefts[i].shape[1]]
        expected = references_lora.pico([stack.lefts[i].numpy() for i in present])
        found = pico(stack)
        for i, value in zip(present, expected, strict=True):
            np.testing.assert_allclose(found.lefts[i].numpy(), value, atol=1e-13)
        assert all(torch.equal(before, after) for before, after in zip(stack.rights, found.rights, strict=True))


def test_on_the_factors_it_is_the_same_as_on_dense_deltas():
    for stack in stacks(UNLIKE):
        U, s, _ = np.linalg.svd(torch.cat(stack.lefts, dim=1).numpy(), full_matrices=False)
        n = sum(left.shape[1] > 0 for left in stack.lefts)
        damping = 1 / (1 + (n - 1) * s**2 / (s**2).sum())
        for i, left in enumerate(pico(stack).lefts):
            dense = stack.rows(i, slice(None)).numpy()
            expected = dense + U @ ((damping - 1)[:, None] * (U.T @ dense))
            np.testing.assert_allclose((left @ stack.rights[i].T).numpy(), expected, atol=1e-13)


def test_by_hand():
    """[B_1|B_2] = [[3, 0], [0, 1]]: shares .9 and .1, so the directions are divided by 1.9 and 1.1."""
    (stack,) = stacks(of_rank_one(([3.0, 0.0], [1.0, 0.0]), ([0.0, 1.0], [0.0, 1.0])))
    first, second = (left.squeeze(1).tolist() for left in pico(stack).lefts)
    assert first == pytest.approx([3 / 1.9, 0.0]) and second == pytest.approx([0.0, 1 / 1.1])
    prepared = LowRank(torch.tensor([[3 / 1.9, 0.0], [0.0, 1 / 1.1]]).double(), torch.eye(2).double())
    rescaled = compensated(stack, prepared)
    assert float(rescaled.left.norm()) == pytest.approx(2.0)  # the mean of 3 and 1


def test_one_adapter_stays_as_it_is():
    merged = run("task_arithmetic", [adapter(1)], conditions=PICO)
    assert distance(deltas(merged.adapter), deltas(adapter(1))) < 1e-12


@pytest.mark.parametrize("n", [2, 5])
def test_identical_adapters_of_rank_one_are_divided_by_their_number(n):
    (stack,) = stacks(of_rank_one(*[([1.0, 2.0, 2.0], [1.0, 0.0])] * n))
    for left in pico(stack).lefts:
        np.testing.assert_allclose(left.numpy(), stack.lefts[0].numpy() / n, atol=1e-13)


def test_what_no_adapter_writes_to_is_untouched():
    (stack,) = stacks(of_rank_one(([3.0, 0.0, 0.0], [1.0, 0.0]), ([3.0, 1.0, 0.0], [0.0, 1.0])))
    assert all(left[2].abs().max() < 1e-13 for left in pico(stack).lefts)


def test_the_merge_has_the_weighted_mean_norm_of_the_originals_whatever_its_scale():
    weights = [1.0, -0.5, 2.0]
    once, twice = (
        deltas(run("task_arithmetic", UNLIKE, weights, options={"scale": scale}, conditions=PICO, rank=9).adapter)
        for scale in (1.0, 0.3)
    )
    assert distance(once, twice) < 1e-12
    for module in DIMS:
        norms = [
            (abs(w), np.linalg.norm(deltas(a)[module])) for w, a in zip(weights, UNLIKE, strict=True) if module in a.modules
        ]
        expected = sum(w * norm for w, norm in norms) / sum(w for w, _ in norms)
        assert np.linalg.norm(once[module]) == pytest.approx(expected)


@pytest.mark.parametrize("method", ["average", "ties", "tsv_m", "lora_lego"])
def test_it_goes_before_any_method_and_changes_what_it_gives(method):
    plain, damped = (deltas(run(method, UNLIKE, conditions=conditions).adapter) for conditions in (None, PICO))
    assert distance(damped, plain) > 1e-2


def test_an_adapter_of_weight_zero_or_of_zeros_does_not_count():
    silent = Adapter({m: Factors(A=f.A, B=f.B * 0.0) for m, f in adapter(7).modules.items()})
    plain = deltas(run("average", UNLIKE, conditions=PICO, rank=9).adapter)
    for adapters, weights in (([*UNLIKE, adapter(7)], [1.0, 1.0, 1.0, 0.0]), ([*UNLIKE, silent], [1.0] * 4)):
        assert distance(deltas(run("average", adapters, weights, conditions=PICO, rank=9).adapter), plain) < 1e-12


def test_nothing_stays_nothing():
    merged = run("average", [Adapter({m: Factors(A=f.A, B=f.B * 0.0) for m, f in adapter(1).modules.items()})], conditions=PICO)
    assert all(not value.any() for value in deltas(merged.adapter).values())
