"""numpy's loops do what torch's do, in place and for any layout."""

import pytest
import torch

from adapterbank.linalg.vectorized import below, exp_, tanh_
from tests.linalg.factories import random


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 11), (3, 5000)])
@pytest.mark.parametrize(("ours", "theirs"), [(tanh_, torch.tanh), (exp_, torch.exp)])
def test_in_place_and_to_the_last_digits(ours, theirs, shape, dtype):
    for scale in (1e-6, 1.0, 10.0):
        tensor = (scale * random(*shape)).to(dtype).T
        expected = theirs(tensor.double())
        assert ours(tensor) is tensor
        torch.testing.assert_close(tensor.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ours", [tanh_, exp_])
def test_an_entry_does_not_depend_on_where_it_lies(ours, dtype):
    tensor = random(1000).to(dtype)
    whole = ours(tensor.clone())
    for start in (1, 7, 990):
        assert torch.equal(ours(tensor[start:].clone()), whole[start:])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_below_picks_in_order_and_leaves_negative_ones_out(dtype):
    offsets = torch.tensor([-1, 5, 0, 9, 10, torch.iinfo(dtype).min, torch.iinfo(dtype).max, 3], dtype=dtype)
    assert below(offsets, 10).tolist() == [5, 0, 9, 3]
    assert below(offsets[:1], 10).tolist() == []
