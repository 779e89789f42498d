"""MoS shard pools expanded to plain factors."""

import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.delta import delta
from adapterbank.lora.shards import Shards, expand


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def indices(rank, count, pool, seed=0):
    return torch.randint(0, pool, (rank, count), generator=torch.Generator().manual_seed(seed))


def test_a_row_is_its_shards_side_by_side():
    pool, index = random(6, 4), indices(3, 2, 6)
    rows = Shards(pool, index, 8).expand()
    for k in range(3):
        assert rows[k].tolist() == [*pool[index[k, 0]].tolist(), *pool[index[k, 1]].tolist()]


def test_the_last_shard_is_cut_off_and_scales_multiply():
    pool, index, scales = random(5, 4), indices(2, 3, 5), random(2, 3, seed=1)
    rows = Shards(pool, index, 10, scales).expand()
    assert rows.shape == (2, 10)
    torch.testing.assert_close(rows[1, 8:], pool[index[1, 2], :2] * scales[1, 2])


def test_rotated_chunks_of_one_module_are_an_index():
    """The repository's own sharing: chunk c of row k is chunk 0 of row (k + c) mod r."""
    chunk = random(4, 3)
    index = (torch.arange(4).unsqueeze(1) + torch.arange(2)) % 4
    rows = Shards(chunk, index, 6).expand()
    torch.testing.assert_close(rows, torch.cat([chunk, chunk.roll(-1, dims=0)], dim=1))


def test_the_delta_of_a_module():
    A, B = Shards(random(7, 3), indices(4, 3, 7), 9), Shards(random(5, 4, seed=2), indices(4, 2, 5, seed=3), 8)
    factors = expand(A, B, 0.5)
    torch.testing.assert_close(delta(factors), 0.5 * B.expand().T.double() @ A.expand().double())
    assert (A.parameters, B.parameters) == (21, 20)


def test_equal_indices_make_pools_linear():
    index = indices(4, 3, 7)
    first, second = random(7, 3), random(7, 3, seed=1)
    mean = Shards((first + second) / 2, index, 9).expand()
    torch.testing.assert_close(mean, (Shards(first, index, 9).expand() + Shards(second, index, 9).expand()) / 2)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        (Shards(random(5, 4), torch.tensor([[0, 5]]), 8), "entries from 0 to 5, pool has 5"),
        (Shards(random(5, 4), torch.tensor([[-1, 2]]), 8), "entries from -1 to 2, pool has 5"),
        (Shards(random(5, 4), torch.tensor([[0.0, 1.0]]), 8), "expected integers"),
        (Shards(random(5, 4), torch.tensor([0, 1]), 8), "expected integers"),
        (Shards(random(5, 4), torch.tensor([[0, 1]]), 9), "2 shards of 4 cover 8"),
        (Shards(random(5, 4), torch.tensor([[0, 1]]), 4), "2 shards of 4 cover 8"),
        (Shards(random(5, 4), torch.tensor([[0, 1]]), 8, torch.ones(2, 2)), "scales: got"),
    ],
)
def test_shards_that_do_not_fit_are_refused(shards, message):
    with pytest.raises(UsageError, match=message):
        shards.expand()


def test_sides_of_unequal_rank_are_refused():
    with pytest.raises(IncompatibleError, match="A give rank 2, those of B rank 3"):
        expand(Shards(random(5, 4), indices(2, 2, 5), 8), Shards(random(5, 4), indices(3, 2, 5), 8), 1.0)
