"""Gauge given is the published method, whatever the adapters: equal to the slow reference per adapter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from tests.lora.make import make_adapter
from tests.rmm.build import build
from tests.rmm.reference import reconstruct_deltas, relative_error

COLLECTIONS = {
    "eight of one rank": [make_adapter(s, 6, 2.0) for s in range(8)],
    "other scalings": [make_adapter(s, 6, scaling) for s, scaling in enumerate((1.0, 0.5, 4.0, 2.0, 2.0))],
    "mixed ranks": [make_adapter(s, rank, 2.0) for s, rank in enumerate((4, 4, 4, 8, 8, 8, 8))],
    "absent modules": [make_adapter(s, 6, 2.0, skip=["block.0.v"] if s > 3 else []) for s in range(6)],
    "half precision in": [make_adapter(s, 6, 2.0, dtype=torch.float16) for s in range(5)],
    "more members than columns": [make_adapter(s, 3, 2.0) for s in range(9)],
}


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("collection", list(COLLECTIONS))
def test_equals_the_reference_per_adapter(collection, p):
    adapters = COLLECTIONS[collection]
    found, wanted = build(adapters, p).deltas(), reconstruct_deltas(adapters, p)
    for ours, theirs in zip(found, wanted, strict=True):
        assert set(ours) == set(theirs)
        assert relative_error(ours, theirs) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_input_dtype_only_rounds_the_inputs(dtype):
    adapters = [make_adapter(s, 6, 2.0, dtype=dtype) for s in range(5)]
    for ours, theirs in zip(build(adapters, 2).deltas(), reconstruct_deltas(adapters, 2), strict=True):
        assert relative_error(ours, theirs) < 1e-6


def test_the_reference_itself_by_hand():
    """Two adapters, one row each in B and A, p = 0: (1 + 3)/2 · (2 + 6)/2 = 8 for both."""

    def scalar(b: float, a: float) -> Adapter:
        return Adapter({"m": Factors(torch.tensor([[a]]), torch.tensor([[b]]))})

    adapters = [scalar(1.0, 2.0), scalar(3.0, 6.0)]
    assert [d["m"] for d in reconstruct_deltas(adapters, 0)] == [np.array([[8.0]])] * 2
    assert [d["m"] for d in build(adapters, 0).deltas()] == [np.array([[8.0]])] * 2
    assert [float(d["m"][0, 0]) for d in build(adapters, 1).deltas()] == pytest.approx([2.0, 18.0])
