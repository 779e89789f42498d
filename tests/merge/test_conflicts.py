"""Conflicts between adapters against dense numpy: norms, cosines, signs, and what of each is in the merge."""

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.conflicts import conflicts, total
from adapterbank.merge.inputs import Inputs
from tests.merge.factories import adapter, deltas, digests, run

WEIGHTS = [1.0, -0.5, 2.0]


def found(adapters, weights, merged: Adapter | None = None, absent="zero"):
    given = Inputs.of(adapters, weights, digests(len(adapters)), 0, Conditions(absent=absent))
    return dict(conflicts(given, merged))


def dense(adapters, weights, merged):
    """The same numbers over all entries of all modules at once."""
    shapes = {name: value.shape for each in adapters for name, value in deltas(each).items()}
    flat = [np.concatenate([deltas(a).get(m, np.zeros(s)).ravel() for m, s in shapes.items()]) for a in adapters]
    flat_merged = np.concatenate([deltas(merged)[m].ravel() for m in shapes])
    pairs = [(a, b) for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j]
    weighted = np.stack([w * a for w, a in zip(weights, flat, strict=True)])

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    return {
        "norms": [np.linalg.norm(a) for a in flat],
        "cosine": [[cosine(a, b) for b in flat] for a in flat],
        "disagreement": sum((a * b < 0).sum() for a, b in pairs) / sum((a * b != 0).sum() for a, b in pairs),
        "cancelled": 1 - np.abs(weighted.sum(0)).sum() / np.abs(weighted).sum(),
        "merged_norm": np.linalg.norm(flat_merged),
        "kept": [cosine(flat_merged, a) for a in flat],
    }


@pytest.mark.parametrize("absent", ["zero", "renormalize"])
def test_they_are_those_of_the_dense_deltas(absent):
    adapters = [adapter(1), adapter(2, rank=2, scaling=2.0), adapter(3, skip=["blocks.0.up"] if absent == "zero" else [])]
    merged = run("task_arithmetic", adapters, WEIGHTS, rank=9).adapter
    sums = total(found(adapters, WEIGHTS, merged, absent))
    for name, expected in dense(adapters, WEIGHTS, merged).items():
        np.testing.assert_allclose(getattr(sums, name), expected, atol=1e-12, err_msg=name)


def test_an_adapter_that_is_left_out_of_a_module_keeps_its_place():
    adapters = [adapter(1), adapter(2, skip=["blocks.0.q"]), adapter(3)]
    module = found(adapters, [1.0] * 3, absent="renormalize")["blocks.0.q"]
    assert module.norms[1] == 0.0 and module.norms[0] > 0 and module.cosine[0][1] == 0.0 == module.kept[1]
    np.testing.assert_allclose(module.norms[2], np.linalg.norm(deltas(adapters[2])["blocks.0.q"]))


def test_by_hand():
    """Two 2×2 deltas, [[1, −1], [0, 0]] and [[1, 1], [0, 0]]: orthogonal, one of two entries is opposed, half cancels."""
    left = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    sides = [Factors(A=torch.tensor([[1.0, sign]], dtype=torch.float64), B=left) for sign in (-1.0, 1.0)]
    module = found([Adapter({"m": side}) for side in sides], [1.0, 1.0])["m"]
    np.testing.assert_allclose(module.cosine, [[1, 0], [0, 1]], atol=1e-12)
    assert (module.disagreement, module.cancelled) == pytest.approx((0.5, 0.5))


def test_copies_agree_and_opposites_cancel():
    same = total(found([adapter(1), adapter(1)], [1.0, 1.0]))
    assert (same.disagreement, same.cancelled) == pytest.approx((0.0, 0.0))
    assert total(found([adapter(1), adapter(1)], [1.0, -1.0])).cancelled == pytest.approx(1.0)
    alone = total(found([adapter(1)], [1.0]))
    assert (alone.disagreement, alone.cancelled) == pytest.approx((0.0, 0.0))
