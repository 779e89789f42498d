"""Bit planes hold what was packed; values are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.codecs.fixed import planes

from .reference import matrix


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 8), max_size=6), st.integers(1, 100), st.integers(0, 2**31))
def test_codes_come_back(widths: list[int], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(
        rng.integers(0, 2 ** np.array(widths, dtype=np.int64)[:, None], (len(widths), rows), dtype=np.int64)
    )
    wide = torch.tensor(widths, dtype=torch.uint8)
    words = planes.pack(codes, wide)
    assert words.shape == (-(-rows // 32), sum(widths))
    assert torch.equal(planes.unpack(words, wide, rows), codes.int())
    ones = torch.ones(len(widths), dtype=torch.bfloat16)
    expected = matrix(tuple(words.numpy().view(np.uint32).flatten().tolist()), widths, [1.0] * len(widths), rows)
    assert np.array_equal(planes.values(codes.int(), wide, ones).numpy().T, expected)


def test_a_tile_of_rows_is_one_run_of_words() -> None:
    widths = torch.tensor([3, 2], dtype=torch.uint8)
    codes = torch.stack([torch.arange(96) % 8, torch.arange(96) % 4]).to(torch.uint8)
    words = planes.pack(codes, widths)
    assert torch.equal(planes.unpack(words[1:2], widths, 32), codes[:, 32:64].int())


@pytest.mark.parametrize("width", range(1, 9))
def test_values_are_exact_products(width: int) -> None:
    codes = torch.arange(2**width, dtype=torch.int32).unsqueeze(0)
    scale = torch.tensor([0.7531], dtype=torch.bfloat16)
    found = planes.values(codes, torch.tensor([width], dtype=torch.uint8), scale)
    exact = (2.0 * codes.double() - (2**width - 1)) * scale.double()
    assert found.dtype == torch.float32
    assert torch.equal(found.double(), exact)
    assert torch.equal(found, -found.flip(1)), "mid-rise codes are symmetric"
