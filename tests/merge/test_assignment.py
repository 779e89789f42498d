"""Which row takes which column, against every permutation; and the matrix of inner products against dense ones."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.errors import UsageError
from adapterbank.linalg.assignment import assign
from adapterbank.merge.clusters import assign as cluster
from adapterbank.merge.clusters import medoid
from adapterbank.merge.gram import cosines, gram, gram_of_all
from adapterbank.merge.inputs import Inputs
from tests.merge.factories import adapter, deltas, digests


def total(gain, columns):
    return sum(float(gain[row, column]) for row, column in enumerate(columns))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 2**31), whole=st.booleans())
def test_no_permutation_gains_more(n, seed, whole):
    draw = torch.Generator().manual_seed(seed)
    gain = torch.randn(n, n, generator=draw, dtype=torch.float64)
    gain = gain.round() if whole else gain  # with many ties
    found = assign(gain)
    assert sorted(found) == list(range(n))
    assert total(gain, found) == pytest.approx(max(total(gain, each) for each in permutations(range(n))))


def test_a_hidden_permutation_of_a_large_matrix_is_found():
    hidden = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    gain = torch.rand(64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gain[torch.arange(64), hidden] += 1.0
    assert assign(gain) == hidden.tolist()


def test_inner_products_are_those_of_the_dense_deltas():
    adapters = [adapter(1, 3, scaling=2.0), adapter(2, 4, skip=["blocks.0.q"]), adapter(3, 2)]
    inputs = Inputs.of(adapters, [1.0] * 3, digests(3), 0)
    flat = [deltas(each) for each in adapters]
    for stack in inputs:
        dense = [d.get(stack.module, np.zeros((stack.d_out, stack.d_in))) for d in flat]
        np.testing.assert_allclose(gram(stack).numpy(), [[(x * y).sum() for y in dense] for x in dense], atol=1e-12)
    whole = gram_of_all(inputs, 3)
    np.testing.assert_allclose(whole[0, 2], sum((flat[0][m] * flat[2][m]).sum() for m in flat[0]))
    assert float(cosines(whole)[0, 2]) == pytest.approx(float(whole[0, 2] / (whole[0, 0] * whole[2, 2]).sqrt()))


def test_a_zero_adapter_has_cosine_0_with_all_others():
    found = cosines(torch.tensor([[4.0, 0.0], [0.0, 0.0]], dtype=torch.float64))
    assert found.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def families(sizes, spread, seed=0):
    """Unit vectors around one direction per family, as their cosines; and the family of each."""
    draw = torch.Generator().manual_seed(seed)
    of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    points = torch.eye(len(sizes), 30, dtype=torch.float64)[of]
    points = points + spread * torch.randn(len(of), 30, generator=draw, dtype=torch.float64)
    order = torch.randperm(len(of), generator=draw)
    return cosines(points[order] @ points[order].T), of[order].tolist()


@pytest.mark.parametrize("algorithm", ["kmeans", "agglomerative"])
@pytest.mark.parametrize("sizes", [[3, 4], [2, 5, 1], [1, 1, 6, 4]])
def test_families_are_found_again(algorithm, sizes):
    for seed in range(5):
        products, of = families(sizes, 0.05, seed)
        found = cluster(products, len(sizes), algorithm)
        assert found.clusters == tuple(list(dict.fromkeys(of)).index(family) for family in of)
        assert found.within > 0.5 > found.between or max(sizes) == 1


@pytest.mark.parametrize("algorithm", ["kmeans", "agglomerative"])
def test_one_cluster_each_and_one_for_all(algorithm):
    products, of = families([2, 3], 0.3)
    assert cluster(products, len(of), algorithm).clusters == tuple(range(len(of)))
    assert cluster(products, 1, algorithm).clusters == (0,) * len(of)
    assert cluster(products, 2, algorithm).members(0)[0] == 0


@pytest.mark.parametrize("algorithm", ["kmeans", "agglomerative"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_no_cluster_is_empty_even_among_copies(algorithm, k):
    assert cluster(torch.ones(4, 4, dtype=torch.float64), k, algorithm).count == k


@pytest.mark.parametrize("k", [0, 3])
def test_a_number_of_clusters_that_cannot_be_is_refused(k):
    with pytest.raises(UsageError, match=f"clusters: got {k}, expected 1 to 2"):
        cluster(torch.eye(2, dtype=torch.float64), k)


@pytest.mark.parametrize("seed", range(5))
def test_every_adapter_ends_nearest_to_the_mean_of_its_cluster(seed):
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(12, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = cluster(torch.from_numpy(points @ points.T), 3)
    means = np.stack([points[list(found.members(label))].mean(axis=0) for label in range(3)])
    distances = ((points[:, None] - means) ** 2).sum(axis=2)
    assert found.clusters == tuple(distances.argmin(axis=1))


def test_the_medoid_is_the_most_central_and_weight_0_does_not_count():
    products = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.3], [0.1, 0.3, 1.0]], dtype=torch.float64)
    assert medoid(products) == 1
    assert medoid(products, torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)) == 2
    assert medoid(torch.ones(3, 3, dtype=torch.float64)) == 0
