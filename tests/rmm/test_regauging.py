"""Other factors of the same adapters: what comes back, and how far off it is, stays the same in svd and procrustes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterbank.lora.adapter import Adapter, Factors
from tests.lora.make import make_adapter, normal, regauged
from tests.rmm.build import build
from tests.rmm.reference import relative_error


def collection() -> list[Adapter]:
    """Eight adapters with a common part, singular values well apart, several scalings."""

    def near(f: Factors, seed: int) -> Factors:
        A, B = normal(*f.A.shape, seed=seed) * f.A.std(), normal(*f.B.shape, seed=seed + 90) * f.B.std()
        return Factors(f.A + 0.5 * A, f.B + 0.5 * B, 1.0 + seed)

    shared = make_adapter(50, 6).modules
    return [Adapter({name: near(f, seed) for name, f in shared.items()}) for seed in range(8)]


@pytest.mark.parametrize("gauge", ["svd", "procrustes"])
@pytest.mark.parametrize("p", [1, 3])
def test_errors_and_deltas_do_not_depend_on_the_factors(gauge, p):
    adapters = collection()
    first, second = build(adapters, p, gauge), build([regauged(a, 100 * i) for i, a in enumerate(adapters)], p, gauge)
    np.testing.assert_allclose(first.errors(), second.errors(), rtol=1e-5)
    for ours, theirs in zip(first.deltas(), second.deltas(), strict=True):
        assert relative_error(ours, theirs) < 1e-5


def test_in_the_given_gauge_they_do():
    adapters = collection()
    first, second = build(adapters, 1), build([regauged(a, 100 * i) for i, a in enumerate(adapters)], 1)
    assert np.mean(second.errors()) > 1.05 * np.mean(first.errors())


def test_copies_in_random_gauges_need_no_component_once_aligned():
    adapters = [regauged(make_adapter(1, 6, 2.0), 100 * i) for i in range(8)]
    assert max(build(adapters, 0, "procrustes").errors()) < 1e-6
    assert max(build(adapters, 0, "svd").errors()) < 1e-6
    assert min(build(adapters, 1, "given").errors()) > 0.1


def test_copies_with_equal_singular_values_align_under_procrustes():
    U, V = torch.linalg.qr(normal(24, 5, seed=1)).Q, torch.linalg.qr(normal(18, 5, seed=2)).Q
    adapters = [regauged(Adapter({"m": Factors(V.T, U)}), 100 * i) for i in range(6)]
    assert max(build(adapters, 0, "procrustes").errors()) < 1e-6
