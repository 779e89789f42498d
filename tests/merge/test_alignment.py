"""Rank units brought onto one another: the same deltas, the same units, factors that can be averaged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.alignment import reference
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.preparation import Prepare
from adapterbank.merge.preparations import PREPARATIONS
from tests.merge.factories import adapter, deltas, digests, distance, regauged, run

ALIGNMENTS = ["align_permutation", "align_procrustes"]
UNLIKE = [adapter(1, 3, scaling=2.0), adapter(2, 5, scaling=-0.5), adapter(3, 2, skip=["blocks.0.q"]), adapter(4, 4)]


def inputs(adapters, weights=None):
    return Inputs.of(adapters, weights or [1.0] * len(adapters), digests(len(adapters)), 0)


def permuted(original, seed):
    """The same units in another order, with other signs, and longer on one side."""
    draw = torch.Generator().manual_seed(seed)
    modules = {}
    for name, f in original.modules.items():
        order = torch.randperm(f.rank, generator=draw)
        scale = (torch.rand(f.rank, generator=draw, dtype=torch.float64) + 0.5) * (torch.randn(f.rank, generator=draw).sign())
        modules[name] = Factors(A=f.A[order] / scale.unsqueeze(1), B=f.B[:, order] * scale, scaling=f.scaling)
    return Adapter(modules)


def rotated(original, seed):
    """The same deltas with orthogonally turned factors."""
    modules = {}
    for place, (name, f) in enumerate(original.modules.items()):
        draw = torch.Generator().manual_seed(100 * seed + place)
        Q = torch.linalg.qr(torch.randn(f.rank, f.rank, generator=draw, dtype=torch.float64)).Q
        modules[name] = Factors(A=Q.T @ f.A, B=f.B @ Q, scaling=f.scaling)
    return Adapter(modules)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_no_delta_changes(name):
    for stack in inputs(UNLIKE):
        aligned = PREPARATIONS[name].prepare(stack)
        for i, (left, right) in enumerate(zip(aligned.lefts, aligned.rights, strict=True)):
            before = stack.rows(i, slice(None))
            torch.testing.assert_close(left @ right.T, before, rtol=0, atol=1e-13)
        ranks = {left.shape[1] for left in aligned.lefts}
        assert ranks <= {0, max(left.shape[1] for left in stack.lefts)}


@pytest.mark.parametrize(
    ("name", "same"), [("align_permutation", permuted), ("align_procrustes", rotated), ("align_procrustes", regauged)]
)
def test_copies_in_other_gauges_become_the_same_factors(name, same):
    original = adapter(1, 4, scaling=1.7)
    copies = [original, *(same(original, seed) for seed in range(4))]
    conditions = Conditions(prepare=(Prepare.of(name),))
    apart = run("linear_factors", copies)
    joined = run("linear_factors", copies, conditions=conditions)
    assert distance(deltas(apart.adapter), deltas(original)) > 0.1
    assert distance(deltas(joined.adapter), deltas(original)) < 1e-13
    for stack in inputs(copies):
        aligned = PREPARATIONS[name].prepare(stack)
        for left, right in zip(aligned.lefts, aligned.rights, strict=True):
            torch.testing.assert_close(left, aligned.lefts[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(right, aligned.rights[0], rtol=0, atol=1e-12)


def together(stack, to, i):
    """⟨B, B'⟩ + ⟨A, A'⟩ of two adapters' factors."""
    return float((stack.lefts[to] * stack.lefts[i]).sum() + (stack.rights[to] * stack.rights[i]).sum())


def test_no_other_rotation_brings_factors_closer_together():
    stack = inputs([adapter(1, 4), adapter(2, 4)]).stack("blocks.0.q")
    aligned = PREPARATIONS["align_procrustes"].prepare(stack)
    for seed in range(20):
        Q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
        turned = replace(
            aligned, lefts=(aligned.lefts[0], aligned.lefts[1] @ Q), rights=(aligned.rights[0], aligned.rights[1] @ Q)
        )
        assert together(turned, 0, 1) <= together(aligned, 0, 1) + 1e-12


def test_matched_units_are_positively_related_and_never_worse_than_as_given():
    for stack in inputs([adapter(seed, 4) for seed in (1, 2, 3)]):
        aligned = PREPARATIONS["align_permutation"].prepare(stack)
        to = reference(stack)
        for i in range(3):
            given, matched = (
                ((of.lefts[to] * of.lefts[i]).sum(dim=0) * (of.rights[to] * of.rights[i]).sum(dim=0)).sum()
                for of in (stack, aligned)
            )
            assert float(matched) >= float(given) - 1e-12
            overlaps = (aligned.lefts[to] * aligned.lefts[i]).sum(dim=0) + (aligned.rights[to] * aligned.rights[i]).sum(dim=0)
            assert bool((overlaps >= 0.0).all())


def test_a_unit_that_is_zero_stays_zero():
    f = adapter(1, 3).modules["blocks.0.q"]
    B = f.B.clone()
    B[:, 1] = 0.0
    stack = next(iter(inputs([Adapter({"m": Factors(A=f.A, B=B)}), Adapter({"m": f})])))
    for name in ALIGNMENTS:
        aligned = PREPARATIONS[name].prepare(stack)
        assert all(bool(side.isfinite().all()) for side in (*aligned.lefts, *aligned.rights))
        np.testing.assert_allclose(aligned.rows(0, slice(None)), stack.rows(0, slice(None)), atol=1e-13)


def test_the_reference_has_a_weight_and_the_module():
    common, other = adapter(1, 4), adapter(2, 4)
    near = [
        Adapter({m: Factors(A=f.A + sign * other.modules[m].A, B=f.B) for m, f in common.modules.items()})
        for sign in (0.3, -0.3)
    ]
    for stack in inputs([adapter(9, 4), common, *near]):
        assert reference(stack) == 1
    for stack in inputs([adapter(9, 4), common, *near], [1.0, 0.0, 1.0, 1.0]):
        assert reference(stack) in (2, 3)
    missing = inputs([adapter(9, 4, skip=["blocks.0.q"]), adapter(8, 4)])
    assert reference(missing.stack("blocks.0.q")) == 1
