"""The rules by which coefficients are found, without a model: Frank–Wolfe, surrogates, dominance, slerp, niches, masks."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapterbank.calibration.bayesian_samples import angles, bin_scores, directions, next_points
from adapterbank.calibration.coefficient_samples import mixed, sobol
from adapterbank.calibration.concrete import concrete, rescaled
from adapterbank.calibration.descent import Descent, adam
from adapterbank.calibration.evolution import Rules, crossover, depth_shares, evolve, founders
from adapterbank.calibration.niches import Archive, attraction, fitness, inserted, parents, shares
from adapterbank.calibration.non_dominated import apart, non_dominated, spread, standard_errors
from adapterbank.calibration.simplex import Simplex, hard_move, towards, walk
from adapterbank.calibration.spherical import inner, inner_products, slerp
from adapterbank.calibration.surrogate_fronts import Metric, Search, fitted, front, nested_front
from adapterbank.calibration.surrogates import LINKS, fit, parameter_count
from adapterbank.errors import UsageError
from adapterbank.lora.delta import delta
from tests.merge.factories import DIMS, adapter


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# Frank–Wolfe: min ½‖c − target‖² in the metric of H, the target inside the set.


def quadratic(target, H):
    def gradients(c):
        gap = c - target
        return [(0.5 * float((gap * (H @ gap)).sum()), H @ gap)]

    return gradients


@pytest.mark.parametrize("by_layer", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_frank_wolfe_converges_as_one_over_t_and_its_gap_bounds_the_error(by_layer, scale):
    n, layers = 4, 3
    root = random(n, n)
    H = root @ root.T / n + torch.eye(n, dtype=torch.float64)
    columns = torch.softmax(random(n, layers if by_layer else 1, seed=1), dim=0).expand(-1, layers)
    simplex = Simplex(scale, by_layer=by_layer)
    seen = []

    def gradients(c):
        seen.append(c)
        return quadratic(scale * columns, H)(c)

    start = torch.full((n, layers), scale / n, dtype=torch.float64)
    best, trace = walk(gradients, hard_move(simplex), start, 200, simplex)
    curvature = float(torch.linalg.eigvalsh(H)[-1]) * layers * 2 * scale**2  # L·diameter²
    for t, (value, gap) in enumerate(trace):
        assert gap >= value - 1e-12  # the minimum is 0
        assert t == 0 or value <= 2 * curvature / (t + 2)
    for c in seen:
        assert torch.allclose(c.sum(dim=0), torch.full((layers,), scale, dtype=torch.float64))
        assert float(c.min()) >= 0.0
        assert by_layer or torch.equal(c, c[:, :1].expand_as(c))
    assert min(gap for _, gap in trace) <= 6.75 * curvature / (len(trace) + 1)  # Jaggi 2013, theorem 2
    assert gradients(best)[0][0] == min(value for value, _ in trace)


def test_frank_wolfe_stops_at_its_tolerance_and_finds_a_corner_exactly():
    corner = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    simplex = Simplex()
    best, trace = walk(
        quadratic(corner, torch.eye(3).double()), hard_move(simplex), torch.full((3, 1), 1 / 3).double(), 50, simplex
    )
    assert torch.equal(best, corner)
    assert len(trace) == 2
    assert trace[-1] == (0.0, 0.0)


def test_a_corner_is_the_minimum_over_all_corners():
    g = random(4, 3)
    for by_layer in (True, False):
        simplex = Simplex(0.6, by_layer=by_layer)
        choices = itertools.product(range(4), repeat=3) if by_layer else [(i, i, i) for i in range(4)]
        lowest = min(0.6 * sum(float(g[i, column]) for column, i in enumerate(choice)) for choice in choices)
        assert float((g * simplex.corner(g)).sum()) == pytest.approx(lowest)


def test_distinct_corners_are_distinct_in_every_layer():
    gradients = [random(3, 5, seed=seed) for seed in range(4)]
    corners = Simplex().distinct_corners(gradients)
    assert corners.shape == (3, 3, 5)  # there are no more corners than adapters
    assert torch.equal(corners.sum(dim=0), torch.ones(3, 5, dtype=torch.float64))
    assert torch.equal(corners[0], Simplex().corner(gradients[0]))


@pytest.mark.parametrize("lengths", [[0.0, 0.0], [0.3, 0.2], [2.0, 1.0], [-1.0, 0.5]])
def test_learned_steps_stay_on_the_simplex(lengths):
    current = torch.softmax(random(3, 2), dim=0)
    corners = Simplex().distinct_corners([random(3, 2, seed=1), random(3, 2, seed=2)])
    moved = towards(current, corners, torch.tensor(lengths).double()[:, None].expand(-1, 2))
    assert torch.allclose(moved.sum(dim=0), torch.ones(2).double())
    assert float(moved.min()) >= 0.0
    first, second = (max(length, 0.0) for length in lengths)
    total = max(first + second, 1.0)
    expected = current + first / total * (corners[0] - current) + second / total * (corners[1] - current)
    assert torch.allclose(moved, expected)


# MAP


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("link", LINKS)
def test_a_quadratic_under_a_link_is_recovered_exactly(n, link):
    A, b, e = 0.5 * random(n, n), 0.5 * random(n, seed=1), 0.3
    points = torch.rand(parameter_count(n) + 5, n, generator=generator(2), dtype=torch.float64)
    q = e + points @ b + torch.einsum("mi,ij,mj->m", points, A, points)
    found = fit(points, LINKS[link].forward(q), link)
    elsewhere = torch.rand(50, n, generator=generator(3), dtype=torch.float64)
    q = e + elsewhere @ b + torch.einsum("mi,ij,mj->m", elsewhere, A, elsewhere)
    assert torch.allclose(found(elsewhere), LINKS[link].forward(q), atol=1e-7)


def test_noisy_fits_are_minima_of_the_squared_error():
    points, n = torch.rand(60, 2, generator=generator(), dtype=torch.float64), 6
    values = torch.sigmoid(1.0 + points[:, 0] - 2 * points[:, 1] ** 2) + 0.05 * random(60, seed=1)
    found = fit(points, values.clamp(0.0, 1.0), "sigmoid")

    def error(parameters):
        return float((type(found)(parameters, found.link)(points) - values.clamp(0.0, 1.0)).square().sum())

    for step in 1e-3 * torch.cat([torch.eye(n), -torch.eye(n)]).double():
        assert error(found.parameters + step) >= error(found.parameters)


@pytest.mark.parametrize("link", LINKS)
def test_links_and_their_derivatives(link):
    q = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    chosen = LINKS[link]
    assert torch.allclose(chosen.inverse(chosen.forward(q)), q, atol=1e-9)
    numeric = (chosen.forward(q + 1e-6) - chosen.forward(q - 1e-6)) / 2e-6
    assert torch.allclose(chosen.derivative(q), numeric, atol=1e-8)


def test_too_few_samples_are_refused_with_the_number_that_is_needed():
    with pytest.raises(UsageError, match=r"15 parameters: got 14 samples"):
        fit(torch.rand(14, 4).double(), torch.rand(14).double(), "identity")


def dominated_by_loops(values):
    rows = values.tolist()
    return [
        any(all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True)) for a in rows)
        for b in rows
    ]


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_non_dominated_points_against_brute_force(tasks):
    values = torch.randint(0, 6, (300, tasks), generator=generator(tasks)).double()  # with ties and equal rows
    assert (~non_dominated(values)).tolist() == dominated_by_loops(values)


def test_what_is_better_by_a_hair_only_is_dominated_with_a_tolerance():
    values = torch.tensor([[0.0, 1.0], [1.0, 0.97], [0.5, 0.0], [0.98, 0.98]]).double()
    assert non_dominated(values).tolist() == [True, True, False, True]
    assert non_dominated(values, torch.full((4, 4, 2), 0.05)).tolist() == [False, True, False, True]


def test_of_points_that_noise_tells_apart_the_best_mean_is_left():
    values = torch.tensor([[0.0, 1.0], [0.02, 0.96], [0.5, 0.5], [0.5, 0.5], [-0.01, 1.03]]).double()
    assert apart(values, torch.full((5, 5, 2), 0.05)).tolist() == [False, False, True, True, True]
    assert apart(values, torch.zeros(5, 5, 2)).tolist() == [True] * 5


def test_the_standard_error_of_a_difference_is_that_of_the_paired_examples():
    examples = [random(5, 9), random(5, 4, seed=1), torch.ones(5, 1).double()]
    errors = standard_errors(examples)
    assert errors.shape == (5, 5, 3) and not errors[..., 2].any()
    for t, own in enumerate(examples[:2]):
        for a in range(5):
            for b in range(5):
                expected = float((own[a] - own[b]).std() / own.shape[1] ** 0.5)
                assert float(errors[a, b, t]) == pytest.approx(expected, abs=1e-7)


def test_spread_takes_the_best_mean_and_the_extremes_first_and_no_point_twice():
    values = torch.tensor([[0.0, 1.0], [0.9, 0.8], [1.0, 0.0], [0.0, 1.0], [0.5, 0.9]]).double()
    assert spread(values, 3).tolist() == [1, 2, 0]
    assert sorted(spread(values, 99).tolist()) == [0, 1, 2, 4]
    assert spread(values[:1], 3).tolist() == [0]


def test_samples_are_in_the_unit_cube_with_all_corners_and_depend_on_the_seed():
    points = mixed(40, 3, 5, isotropic=0.4, one_hot=0.2)
    assert points.shape == (40, 3)
    assert torch.equal(points[:3], torch.eye(3, dtype=torch.float64))
    assert float(points.min()) >= 0.0
    assert float(points.max()) <= 1.0
    assert int((points == points[:, :1]).all(dim=1).sum()) == 7  # half of 40 % of the rest
    assert torch.equal(points, mixed(40, 3, 5, isotropic=0.4, one_hot=0.2))
    assert not torch.equal(points, mixed(40, 3, 6, isotropic=0.4, one_hot=0.2))
    assert not torch.equal(sobol(8, 3, 0), sobol(8, 3, 1))


def test_angles_and_directions_are_inverse():
    points = torch.rand(20, 4, generator=generator(), dtype=torch.float64)
    radius = points.norm(dim=1, keepdim=True)
    assert torch.allclose(directions(angles(points)) * radius, points)


def test_bins_without_samples_are_the_most_wanted_and_the_next_points_go_where_the_error_is():
    angle = torch.tensor([[0.1], [0.2], [1.5]]).double()
    scores = bin_scores(angle, torch.tensor([0.0, 2.0, 0.5]).double(), 4)
    assert scores[0].tolist() == pytest.approx([1.5, 1.5, 1.5, 0.5])
    points = directions(torch.linspace(0.05, 1.5, 40)[:, None].double())
    errors = (angles(points)[:, 0] > math.pi / 4).double()
    new = next_points(points, errors, 50, 4, generator())
    assert (angles(new)[:, 0] > math.pi / 4).all()
    assert float(new.norm(dim=1).max()) <= 1.5


def two_bowls(centres):
    """Metrics 1 − ‖c − centre_t‖²: the front is the segment between the centres."""

    def measure(c, tasks):
        return torch.stack([1.0 - (c - centres[t]).square().sum() for t in tasks])

    return measure


PLAIN = Search(Metric("accuracy", "identity", 1.0), points=12)


def test_the_front_of_two_bowls_is_the_segment_between_their_centres():
    centres = torch.tensor([[0.2, 0.7], [0.8, 0.3]]).double()
    found = front(two_bowls(centres), torch.eye(2).double(), [0, 1], PLAIN)
    along = (centres[1] - centres[0]) / (centres[1] - centres[0]).norm()
    offsets = found.points - centres[0]
    across = offsets - (offsets @ along)[:, None] * along
    assert len(found.points) >= 8
    assert float(across.norm(dim=1).max()) < 0.06  # as dense as 4096 points and no more
    assert float((offsets @ along).min()) > -0.06
    assert float((offsets @ along).max()) < float((centres[1] - centres[0]).norm()) + 0.06
    assert torch.allclose(found.predicted, found.measured, atol=1e-9)
    assert non_dominated(found.measured).all()
    for end in (0, 1):
        assert float((found.points - centres[end]).norm(dim=1).min()) < 0.05


def test_a_tolerant_front_leaves_out_what_the_examples_cannot_tell_from_worse_but_not_the_best_mean():
    centres, seen = torch.tensor([[0.2, 0.7], [0.8, 0.3]]).double(), []
    own = random(2, 30, 2, seed=7) * 0.2  # what each example wants instead of the centre

    def measure(c, tasks):
        seen.append(torch.stack([1.0 - (c - centres[t] - own[t]).square().sum(dim=1) for t in tasks]))
        return seen[-1]

    found = front(measure, torch.eye(2).double(), [0, 1], replace(PLAIN, tolerance=2.0))
    everything = torch.stack(seen)  # [m, T, J]
    means = everything.mean(dim=2)

    def beats(b, a):
        d = everything[b] - everything[a]
        noise = 2.0 * d.std(dim=1) / 30**0.5
        clearly = bool((d.mean(dim=1) > noise).any())
        return bool((d.mean(dim=1) >= -noise).all()) and (clearly or bool(means[b].mean() > means[a].mean()))

    def rows(values):
        return [tuple(round(value, 9) for value in row) for row in values.tolist()]

    clear = set(rows(means[[a for a in range(len(seen)) if not any(beats(b, a) for b in range(len(seen)))]]))
    first, *others = rows(found.measured)
    assert first == rows(means[means.mean(dim=1).argmax()][None])[0]
    assert others and set(others) <= clear
    sharp = front(measure, torch.eye(2).double(), [0, 1], PLAIN)
    assert not set(rows(sharp.measured)) <= clear | {first}


def test_nothing_returned_is_dominated_by_anything_evaluated():
    centres = random(3, 3).abs().clamp(max=1.0)
    seen = []

    def measure(c, tasks):
        value = torch.stack([torch.cos(3 * (c - centres[t])).sum() for t in tasks])  # no quadratic
        seen.append(value)
        return value

    found = front(measure, torch.eye(3).double(), [0, 1, 2], PLAIN)
    everything = torch.stack(seen)
    best = {tuple(row) for row in everything[non_dominated(everything)].tolist()}
    assert {tuple(row) for row in found.measured.tolist()} <= best
    assert torch.equal(found.measured[0], everything[everything.mean(dim=1).argmax()])
    assert len(seen) <= PLAIN.evaluations(3)


def test_a_sample_better_than_anything_predicted_is_in_the_front():
    def measure(c, tasks):
        spike = 10.0 if c.tolist() == [0.0, 1.0] else 0.0  # one of the corners that are always evaluated
        return torch.stack([c[0] + spike, spike - c[0]])

    found = front(measure, torch.eye(2).double(), [0, 1], PLAIN)
    assert found.points.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_nested_fits_have_two_coefficients_and_few_evaluations(n):
    centres = torch.eye(n).double()
    calls = []

    def measure(c, tasks):
        calls.append((c, tuple(tasks)))
        return two_bowls(centres)(c, tasks)

    found = nested_front(measure, n, Search(PLAIN.metric, samples=20, points=5))
    assert len(calls) <= 20 * (n - 1) + 5
    assert found.points.shape[1] == n
    assert found.measured.shape[1] == n
    assert non_dominated(found.measured).all()
    assert all(float(c[[i for i in range(n) if i not in tasks]].abs().sum()) == 0.0 for c, tasks in calls)


def test_further_rounds_evaluate_more_where_the_fit_errs():
    def measure(c, tasks):
        return torch.stack([torch.sin(9 * c[0]) * (c[1] > c[0]) for _ in tasks])

    plain = fitted(measure, torch.eye(2).double(), [0], Search(PLAIN.metric, samples=12))
    more = fitted(measure, torch.eye(2).double(), [0], Search(PLAIN.metric, samples=12, rounds=2, batch=7))
    assert len(plain.places) == 12
    assert len(more.places) == 26
    assert torch.equal(plain.places, more.places[:12])
    assert float(more.places.min()) >= 0.0
    assert float(more.places.max()) <= 1.0


# M2N2

ADAPTERS = [adapter(1, 3, scaling=2.0), adapter(2, 2, skip=["blocks.0.q"]), adapter(3, 4, scaling=0.5)]
MODULES = sorted(DIMS)


def whole(coefficients):
    """The merge with these coefficients, all modules in one vector."""
    parts = []
    for column, module in enumerate(MODULES):
        dense = np.zeros(DIMS[module])
        for i, each in enumerate(ADAPTERS):
            if module in each.modules:
                dense += float(coefficients[i, column]) * delta(each.modules[module]).numpy()
        parts.append(dense.ravel())
    return np.concatenate(parts)


def test_inner_products_of_merges_without_merging():
    products = inner_products(ADAPTERS)
    first, second = random(3, 3), random(3, 3, seed=1)
    assert inner(first, second, products) == pytest.approx(whole(first) @ whole(second), rel=1e-12)


def test_slerp_in_coefficients_is_the_slerp_of_whole_merges():
    products = inner_products(ADAPTERS)
    first, second = random(3, 3), random(3, 3, seed=1)
    at = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    a, b = whole(first), whole(second)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    t = np.concatenate([np.full(np.prod(DIMS[m]), float(at[i])) for i, m in enumerate(MODULES)])
    expected = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    np.testing.assert_allclose(whole(slerp(first, second, at, products)), expected, atol=1e-12)


def test_slerp_ends_at_its_ends_and_keeps_equal_norms():
    products = inner_products(ADAPTERS)
    first, second = random(3, 3), random(3, 3, seed=1)
    second = second * (inner(first, first, products) / inner(second, second, products)) ** 0.5
    ends = [slerp(first, second, torch.full((3,), t).double(), products) for t in (0.0, 1.0)]
    assert torch.allclose(ends[0], first)
    assert torch.allclose(ends[1], second)
    for t in (0.1, 0.5, 0.8):
        between = slerp(first, second, torch.full((3,), t).double(), products)
        assert inner(between, between, products) == pytest.approx(inner(first, first, products), rel=1e-12)


@pytest.mark.parametrize("second", [1.0, 2.0, -1.0, 0.0])
def test_slerp_of_parallel_or_zero_merges_is_linear(second):
    products = inner_products(ADAPTERS)
    first = random(3, 3)
    between = slerp(first, second * first, torch.full((3,), 0.25).double(), products)
    assert torch.allclose(between, (0.75 + 0.25 * second) * first)


def test_niche_fitness_sums_to_the_points_that_anybody_covers():
    scores = (random(5, 40) > 1.0).double()
    covered = int((scores.sum(dim=0) > 0).sum())
    assert 0 < covered < 40
    assert float(fitness(scores, 1.0).sum()) == pytest.approx(covered)
    assert fitness(scores, 0.0).tolist() == scores.sum(dim=1).tolist()


def test_shares_and_attraction_by_hand():
    scores = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]]).double()
    assert shares(scores, 1.0).tolist() == [[0.4, 1.0, 0.0], [0.4, 0.0, 0.0], [0.2, 0.0, 0.0]]
    assert attraction(shares(scores, 1.0), 1).tolist() == [1.0, 0.0, 0.0]
    assert attraction(shares(scores, 1.0), 0).tolist() == [0.0, 0.0, 0.0]


def test_parents_are_drawn_even_where_nothing_scores():
    archive = Archive(torch.zeros(3, 2, 2).double(), torch.zeros(3, 4).double())
    drawn = {parents(archive, 1.0, generator(seed)) for seed in range(60)}
    assert len(drawn) == 9


def test_a_second_parent_knows_what_the_first_does_not():
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).double()
    archive = Archive(torch.zeros(3, 1, 1).double(), scores)
    for seed in range(20):
        first, second = parents(archive, 1.0, generator(seed))
        assert second == 2 if first < 2 else second < 2


def test_the_least_fit_leaves_a_full_archive_also_if_it_is_the_new_one():
    full = Archive(torch.arange(2.0).double()[:, None, None], torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double())
    better = inserted(full, torch.full((1, 1), 7.0).double(), torch.tensor([0.0, 1.0]).double(), 2, 1.0)
    assert better.genomes[:, 0, 0].tolist() == [0.0, 7.0]
    worse = inserted(full, torch.full((1, 1), 7.0).double(), torch.zeros(2).double(), 2, 1.0)
    assert worse.genomes[:, 0, 0].tolist() == [0.0, 1.0]
    assert len(inserted(full, torch.zeros(1, 1).double(), torch.zeros(2).double(), 3, 1.0)) == 3


def test_modules_begin_where_the_model_has_come_to():
    order = ["layers.2", "layers.10", "head"]
    assert depth_shares(order, [10, 60, 30], ["head", "layers.10", "layers.2"]).tolist() == [0.9, 0.3, 0.0]


def test_a_child_goes_from_one_parent_to_the_other_at_the_split():
    products = inner_products(ADAPTERS)
    first, second, depth = random(3, 3), random(3, 3, seed=1), torch.tensor([0.0, 0.5, 0.9]).double()
    for seed in range(5):
        split, w = torch.rand(2, generator=generator(seed), dtype=torch.float64).tolist()
        at = torch.tensor([w if d < split else 1 - w for d in depth.tolist()]).double()
        child = crossover(first, second, depth, products, generator(seed))
        assert torch.allclose(child, slerp(first, second, at, products))


def evolved(seed, generations=60):
    """Adapter i alone answers third i of the points with its coefficient's share."""
    products = inner_products(ADAPTERS)

    def evaluate(genome):
        return genome.mean(dim=1).clamp(0.0, 1.0).sqrt().repeat_interleave(4)

    depth = torch.tensor([0.0, 0.3, 0.6]).double()
    return evolve(evaluate, lambda scores: float(scores.mean()), products, depth, Rules(generations, 6), seed)


def test_evolution_never_loses_its_best_and_beats_its_founders():
    found = evolved(1)
    assert found.trace == sorted(found.trace)
    assert len(found.trace) == 61
    assert found.trace[0] == pytest.approx(1 / 3)  # a founder alone
    assert found.trace[-1] > 0.45
    assert len(found.archive) == 6
    assert float(found.best.mean(dim=1).clamp(0.0, 1.0).sqrt().mean()) == pytest.approx(found.trace[-1])


def test_evolution_is_the_same_for_the_same_seed():
    first, again, other = evolved(1), evolved(1), evolved(2)
    assert torch.equal(first.best, again.best)
    assert first.trace == again.trace
    assert torch.equal(first.archive.genomes, again.archive.genomes)
    assert not torch.equal(first.archive.genomes, other.archive.genomes)


def test_founders_are_the_adapters_alone():
    assert torch.equal(founders(3, 2)[1], torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double())


# Adam


def test_descent_is_adam_with_the_betas_of_adamerging():
    target, told = random(2, 3), []
    leaf = torch.full((2, 3), 0.3, dtype=torch.float64)
    trace = adam(lambda: (leaf - target).pow(4).sum(), leaf, Descent("entropy", 7, 0.05), lambda v: told.append(v) or v)
    x, m, v, values = np.full((2, 3), 0.3), 0.0, 0.0, []
    for t in range(1, 8):
        values.append(((x - target.numpy()) ** 4).sum())
        g = 4 * (x - target.numpy()) ** 3
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(leaf.numpy(), x, rtol=1e-12)
    assert trace == pytest.approx(values)
    assert told == trace
    assert not leaf.requires_grad


# Masks


def test_a_mask_of_equal_logits_is_one_and_its_mean_always_is():
    assert torch.equal(rescaled(torch.sigmoid(torch.zeros(7))), torch.ones(7))
    drawn = rescaled(concrete(random(500), 0.5, generator(1)))
    assert float(drawn.mean()) == pytest.approx(1.0)


def test_concrete_draws_approach_bernoulli_of_the_logit():
    logits = torch.full((20000,), math.log(3.0), dtype=torch.float64)
    drawn = concrete(logits, 0.01, generator())
    assert float(drawn.mean()) == pytest.approx(0.75, abs=0.01)
    assert float(((drawn > 0.01) & (drawn < 0.99)).double().mean()) < 0.05
    assert torch.equal(drawn, concrete(logits, 0.01, generator()))
