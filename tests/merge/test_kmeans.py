"""k-means up to sign, from inner products alone."""

import random

import pytest
import torch

from adapterbank.merge.kmeans import signed_kmeans


def points(count, dimension, seed=0):
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cluster(vectors, k, seed=0, **settings):
    return signed_kmeans(vectors @ vectors.T, k, random.Random(seed).random, **settings)


def inertia(vectors, found):
    turned = vectors * found.signs.unsqueeze(1)
    members = [turned[found.labels == label] for label in found.labels.unique()]
    return sum(float((own - own.mean(dim=0)).square().sum()) for own in members)


def test_separate_groups_are_found_whatever_the_signs():
    centres = torch.eye(4, dtype=torch.float64) * 10.0
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0], dtype=torch.float64).repeat_interleave(4).unsqueeze(1)
    vectors = (centres.repeat(5, 1) + 0.1 * points(20, 4)) * signs
    found = cluster(vectors, 4)
    for group in range(4):
        assert len(found.labels[group::4].unique()) == 1
        relative = found.signs[group::4] * signs[group::4, 0]
        assert bool((relative == relative[0]).all())
    assert len(found.labels.unique()) == 4


def test_the_inertia_is_that_of_the_turned_vectors_about_their_means():
    vectors = points(30, 5)
    found = cluster(vectors, 6)
    assert found.inertia == pytest.approx(inertia(vectors, found), rel=1e-12)


def test_turning_vectors_changes_no_label_and_no_inertia():
    vectors = points(25, 6)
    signs = torch.where(points(25, 1) < 0, -1.0, 1.0).double()
    first, second = cluster(vectors, 5), cluster(vectors * signs, 5)
    assert torch.equal(first.labels, second.labels)
    assert second.inertia == pytest.approx(first.inertia)


def test_more_starts_are_never_worse():
    vectors = points(40, 3)
    assert cluster(vectors, 7, n_init=20).inertia <= cluster(vectors, 7, n_init=1).inertia


@pytest.mark.parametrize("k", [1, 4, 9])
def test_no_cluster_is_empty_even_among_copies(k):
    vectors = points(2, 3).repeat(5, 1)[:9]
    found = cluster(vectors, k)
    assert found.labels.unique().tolist() == list(range(k))
    assert found.inertia >= 0.0


def test_a_cluster_for_every_vector_leaves_no_distance():
    assert cluster(points(8, 3), 8).inertia == pytest.approx(0.0, abs=1e-12)
