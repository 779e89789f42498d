"""Factors to rows and back: the same ΔW, scaling 1, no copy on the way out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapterbank.lora.adapter import Factors
from adapterbank.lora.delta import delta
from adapterbank.lora.pack import pack, unpack
from tests.lora.make import make_factors, normal


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.floats(-4, 4))
def test_there_and_back_keeps_delta(d_out, d_in, rank, scaling):
    f = Factors(normal(rank, d_in, seed=1), normal(d_out, rank, seed=2), scaling)
    rows = pack(f, dtype=torch.float64)
    back = unpack(rows, f.shape("m"))
    assert rows.shape == (d_out + d_in, rank) and back.scaling == 1.0
    torch.testing.assert_close(delta(back), delta(f))


def test_unpacked_factors_are_views_and_know_their_kind():
    f = Factors(normal(2, 5, seed=0), normal(3, 2, seed=1), kind="conv", kernel=(1, 5))
    rows = pack(f)
    back = unpack(rows, f.shape("m"))
    rows.zero_()
    assert back.A.abs().sum() == back.B.abs().sum() == 0
    assert (back.kind, back.kernel, back.shape("m")) == ("conv", (1, 5), f.shape("m"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaling_is_applied_after_the_cast(dtype):
    f = make_factors(3, 6, 5, 2, scaling=3.0)
    low = Factors(f.A.to(dtype), f.B.to(dtype), 3.0)
    assert torch.equal(pack(low)[:6], low.B.float() * 3.0)
