"""Elementwise rules in other coordinates, against dense numpy decompositions by the papers' formulas."""

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.spaces import space_of
from adapterbank.merge.streams import kept, stream_key
from tests.merge import references
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, regauged, run

SPACES = ["full", "core", "knots", "factors"]
UNLIKE = [adapter(1, 3, scaling=2.0), adapter(2, 2, scaling=0.5), adapter(3, 2, skip=["blocks.0.q"])]
WEIGHTS = [1.0, 0.5, -0.7]
EQUAL = [adapter(1, 3, scaling=2.0), adapter(2, 3, scaling=0.5), adapter(3, 3)]
RULES = [("ties", {"density": 0.4}), ("dare_linear", {}), ("dare_ties", {})]


def stacks(adapters, weights=WEIGHTS):
    return list(Inputs.of(adapters, weights, digests(len(adapters)), 0))


def dense(stack):
    return [(left @ right.T).numpy() for left, right in zip(stack.lefts, stack.rights, strict=True)]


def balanced(delta, rank):
    """U√S and V√S."""
    U, S, Vh = np.linalg.svd(delta, full_matrices=False)
    return U[:, :rank] * np.sqrt(S[:rank]), Vh[:rank].T * np.sqrt(S[:rank])


def core(parts, ranks):
    """Core Space of balanced factors: left basis, right basis, and every delta between them."""
    pairs = [balanced(delta, rank) for delta, rank in zip(parts, ranks, strict=True)]
    sides = [np.concatenate(side, axis=1) for side in zip(*pairs, strict=True)]
    left, right = (np.linalg.svd(side, full_matrices=False)[0][:, : min(side.shape)] for side in sides)
    return left, right, [left.T @ delta @ right for delta in parts]


def knots(parts):
    """KnOTS: the common left vectors of all deltas side by side, and S·V_iᵀ of each."""
    U, S, Vh = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
    seen = S / S[0] > 1e-5
    U, rest = U[:, seen], (S[:, None] * Vh)[seen]
    return U, np.split(rest, len(parts), axis=1)


@pytest.mark.parametrize("scope", ["module", "model"])
def test_ties_in_core_space_is_that_of_dense_decompositions(scope):
    bases = {s.module: core(dense(s), [left.shape[1] for left in s.lefts]) for s in stacks(UNLIKE)}
    cores = {module: parts for module, (_, _, parts) in bases.items()}
    merged = references.ties(cores, WEIGHTS, digests(3), 0, density=0.3, scope=scope)
    expected = {module: left @ merged[module] @ right.T for module, (left, right, _) in bases.items()}
    found = run("ties", UNLIKE, WEIGHTS, options={"space": "core", "density": 0.3, "scope": scope}, rank=9)
    assert distance(deltas(found.adapter), expected) < 1e-7


@pytest.mark.parametrize("scope", ["module", "model"])
def test_ties_in_knots_space_is_that_of_dense_decompositions(scope):
    bases = {s.module: knots(dense(s)) for s in stacks(UNLIKE)}
    aligned = {module: parts for module, (_, parts) in bases.items()}
    merged = references.ties(aligned, WEIGHTS, digests(3), 0, density=0.3, scope=scope)
    expected = {module: U @ merged[module] for module, (U, _) in bases.items()}
    found = run("ties", UNLIKE, WEIGHTS, options={"space": "knots", "density": 0.3, "scope": scope}, rank=9)
    assert distance(deltas(found.adapter), expected) < 1e-7


@pytest.mark.parametrize("space", SPACES[:3])
def test_a_linear_rule_gives_the_same_in_every_space_of_deltas(space):
    expected = deltas(run("task_arithmetic", UNLIKE, WEIGHTS, rank=9).adapter)
    found = run("dare_linear", UNLIKE, WEIGHTS, options={"density": 1.0, "space": space}, rank=9)
    assert distance(deltas(found.adapter), expected) < 1e-7


def test_a_linear_rule_on_the_factors_has_peft_s_cross_terms():
    """(Σ √|w|·B)(Σ ±√|w|·A) with both factors of one norm."""
    sums = {}
    for stack in stacks(EQUAL):
        left = right = 0.0
        for L, R, w in zip(stack.lefts, stack.rights, WEIGHTS, strict=True):
            ratio = np.sqrt(float(R.norm() / L.norm()))
            left = left + np.sqrt(abs(w)) * ratio * L.numpy()
            right = right + np.sign(w) * np.sqrt(abs(w)) / ratio * R.numpy()
        sums[stack.module] = left @ right.T
    found = run("dare_linear", EQUAL, WEIGHTS, options={"density": 1.0, "space": "factors"}, rank=9)
    assert distance(deltas(found.adapter), sums) < 1e-12


@pytest.mark.parametrize("space", SPACES)
def test_the_parts_of_a_space_give_the_deltas_back(space):
    for stack in stacks(EQUAL):
        coordinates = space_of(stack, space)
        for i, delta in enumerate(dense(stack)):
            whole = slice(None)
            back = coordinates.join([part.rows(i, whole) for part in coordinates.parts])
            found = back.numpy() if isinstance(back, torch.Tensor) else (back.left @ back.right.T).numpy()
            np.testing.assert_allclose(found, delta, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("method", "options"), RULES)
def test_one_adapter_and_copies_of_one_give_it_when_nothing_is_left_out(method, options, space):
    options = {**options, "density": 1.0, "space": space}
    assert distance(deltas(run(method, EQUAL[:1], options=options).adapter), deltas(EQUAL[0])) < 1e-7
    if method != "dare_linear":
        assert distance(deltas(run(method, EQUAL[:1] * 3, options=options).adapter), deltas(EQUAL[0])) < 1e-7


@pytest.mark.parametrize("space", ["core", "knots"])
@pytest.mark.parametrize(("method", "options"), RULES)
def test_the_gauge_and_an_adapter_without_weight_change_nothing(method, options, space):
    options = {**options, "space": space}
    first = deltas(run(method, UNLIKE, WEIGHTS, options=options).adapter)
    others = [regauged(value, seed) for seed, value in enumerate(UNLIKE)]
    assert distance(deltas(run(method, others, WEIGHTS, options=options).adapter), first) < 1e-7
    fourth = run(method, [*UNLIKE, adapter(9, 3)], [*WEIGHTS, 0.0], options=options)
    assert distance(deltas(fourth.adapter), first) < 1e-7


@pytest.mark.parametrize("method", ["ties", "dare_linear"])
def test_the_four_spaces_are_four_methods(method):
    found = [deltas(run(method, EQUAL, options={"space": space, "density": 0.5}).adapter) for space in SPACES]
    assert all(distance(one, two) > 1e-2 for i, one in enumerate(found) for two in found[:i])


def test_a_mask_of_another_space_is_keyed_by_the_part():
    (stack,) = (s for s in stacks(EQUAL, [1.0, 0.0, 0.0]) if s.module == "blocks.0.q")
    (part,) = space_of(stack, "core").parts
    mask = kept(stream_key(0, stack.names[0], "blocks.0.q\ncore"), 0, part.d_out * part.d_in, 0.5)
    entries = part.rows(0, slice(None)) * mask.view(part.d_out, part.d_in) * 2
    back = space_of(stack, "core").join([entries])
    found = run("dare_linear", EQUAL, [1.0, 0.0, 0.0], options={"space": "core"}, rank=9)
    expected = (back.left @ back.right.T).numpy()
    assert distance({"q": deltas(found.adapter)["blocks.0.q"]}, {"q": expected}) < 1e-12


def test_sizes_are_those_of_the_space():
    for stack in stacks(EQUAL):
        (part,) = space_of(stack, "core").parts
        assert (part.d_out, part.d_in) == (min(9, DIMS[stack.module][0]), min(9, DIMS[stack.module][1]))
        (part,) = space_of(stack, "knots").parts
        assert (part.d_out, part.d_in) == (9, DIMS[stack.module][1])


def test_factors_of_unequal_ranks_cannot_be_compared():
    with pytest.raises(IncompatibleError, match=r"'blocks\.0\.q' has the ranks \[2, 3\]"):
        run("ties", UNLIKE, WEIGHTS, options={"space": "factors"})


@pytest.mark.parametrize("space", SPACES)
def test_a_module_of_zeros_stays_zero(space):
    zero = adapter(1, 2)
    for factors in zero.modules.values():
        factors.B.zero_()
    merged = run("ties", [zero, zero], options={"space": space})
    assert not any(delta.any() for delta in deltas(merged.adapter).values())
