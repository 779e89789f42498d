"""mergekit's delta rules on small dense deltas, beside ours in the space ``full``.

Run by ``make test-mergekit``, in an environment of its own: mergekit brings pandas and pyarrow along. Its ``linear`` is our
``average``, or ``task_arithmetic`` without ``normalize``. Where the two differ by definition, a test says how:

- TIES keeps exactly k entries there, of equally large ones some; here all that are as large as the k-th.
- An entry that cancels exactly is positive there; here it takes the majority sign, as the authors have it.
- The mean divides there by the sum of the weights, here by their count (the authors) or the sum of their sizes. With
  ``normalize: false`` mergekit leaves out the division, which is no method here.
- DARE drops by its own random stream there, and ``rescale`` restores the sum of sizes; here entries are divided by the density,
  as the authors have it.

Breadcrumbs, DELLA, SCE and the means on spheres have no counterpart here, but for slerp, which natural niches breed with.
"""

from functools import partial

import numpy as np
import pytest
import torch

from adapterbank.calibration.spherical import inner_products, slerp
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.streams import kept, stream_key
from adapterbank.merge.weights import scheduled
from tests.merge.factories import deltas, digests, factors, run

WHY = "mergekit has an environment of its own: make test-mergekit"
registry = pytest.importorskip("mergekit.merge_methods.registry", reason=WHY)
inputs = pytest.importorskip("mergekit.merge_methods.base", reason=WHY)
config = pytest.importorskip("mergekit.config", reason=WHY)

SHAPES = [(12, 12), (18, 7), (5, 14)]
WEIGHTS, ONES, SIGNED = [0.5, 1.3, 0.8], [1.0, 1.0, 1.0], [0.5, -0.3, 0.8]
CUT = 2e-7  # a dense cut finds directions to √ε of the largest
SINGLE = 2e-6  # mergekit drops in float32


def full_rank(shape, count=3):
    """Adapters of one module whose factors can be any matrix of that shape, and their deltas."""
    adapters = [Adapter({"m": factors(40 + seed, *shape, min(shape))}) for seed in range(count)]
    return adapters, [torch.from_numpy(deltas(value)["m"]) for value in adapters]


def of(matrix):
    tensor = torch.tensor(matrix, dtype=torch.float64)
    return Adapter({"m": Factors(A=torch.eye(tensor.shape[1], dtype=torch.float64), B=tensor)})


def theirs(method, tensors, weights, base=None, **parameters):
    """The merged delta by mergekit, of models that are ``base`` plus the deltas."""
    base = torch.zeros_like(tensors[0]) if base is None else base
    group = inputs.TensorGroup.from_tensors([base, *(base + tensor for tensor in tensors)], base_index=0)
    (merged,) = registry.get(method)((group,), parameters={"weight": weights, **parameters})
    return (merged - base).numpy()


def ours(method, adapters, weights, **options):
    rank = min(adapters[0].modules["m"].B.shape[0], adapters[0].modules["m"].A.shape[1])
    return deltas(run(method, adapters, weights, options=options, rank=rank, seed=5).adapter)["m"]


def near(found, expected, tolerance=CUT):
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "normalize", "weights"),
    [("average", True, WEIGHTS), ("average", True, SIGNED), ("task_arithmetic", False, SIGNED), ("svd", False, WEIGHTS)],
)
def test_linear(shape, name, normalize, weights):
    adapters, tensors = full_rank(shape)
    group = inputs.TensorGroup.from_tensors(tensors)
    (expected,) = registry.get("linear")((group,), parameters={"weight": weights, "normalize": normalize})
    near(ours(name, adapters, weights), expected.numpy())


EQUAL = [  # mergekit's method and parameters, the weights, our method and options
    ("task_arithmetic", {}, WEIGHTS, "task_arithmetic", {}),
    ("task_arithmetic", {"lambda": 0.7}, SIGNED, "task_arithmetic", {"scale": 0.7}),
    ("task_arithmetic", {"normalize": True}, SIGNED, "average", {}),
    ("ties", {"density": 0.2}, ONES, "ties", {"density": 0.2}),
    ("ties", {"density": 0.2}, ONES, "ties", {"density": 0.2, "normalize": "weights"}),
    ("ties", {"density": 0.4, "int8_mask": True}, WEIGHTS, "ties", {"density": 0.4, "normalize": "weights"}),
    ("ties", {"density": 0.4, "lambda": 1.5}, WEIGHTS, "ties", {"density": 0.4, "normalize": "weights", "scale": 1.5}),
    ("ties", {"density": 0.001}, WEIGHTS, "ties", {"density": 0.001, "normalize": "weights"}),
    ("ties", {"density": 1.0}, WEIGHTS, "ties", {"density": 1.0, "normalize": "weights"}),
    ("dare_linear", {"density": 1.0}, SIGNED, "dare_linear", {"density": 1.0}),
    ("dare_ties", {"density": 1.0, "normalize": True}, WEIGHTS, "dare_ties", {"density": 1.0, "normalize": "weights"}),
    ("dare_ties", {"density": 1.0, "normalize": True}, ONES, "dare_ties", {"density": 1.0}),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kit", "parameters", "weights", "name", "options"), EQUAL)
def test_equal_by_definition(shape, kit, parameters, weights, name, options):
    adapters, tensors = full_rank(shape)
    base = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near(ours(name, adapters, weights, **options), theirs(kit, tensors, weights, base, **parameters))


def drop_alike(monkeypatch, shape, density):
    """Let mergekit draw our masks, which are returned."""
    entries = shape[0] * shape[1]
    masks = [kept(stream_key(5, name, "m"), 0, entries, density).view(shape) for name in digests(3)]
    drawn = iter(masks)

    def draw(chances):
        mask = next(drawn)
        assert chances.shape == mask.shape
        assert bool((chances == torch.tensor(density, dtype=chances.dtype)).all())
        return mask.to(chances)

    monkeypatch.setattr(torch, "bernoulli", draw)
    return masks


DARE = [("dare_linear", {}, {}, SIGNED), ("dare_ties", {"normalize": True}, {"normalize": "weights"}, WEIGHTS)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "parameters", "options", "weights"), DARE)
def test_dare_with_the_same_masks_is_theirs_without_rescale_over_the_density(
    name, parameters, options, weights, shape, monkeypatch
):
    adapters, tensors = full_rank(shape)
    drop_alike(monkeypatch, shape, 0.4)
    expected = theirs(name, tensors, weights, density=0.4, rescale=False, **parameters) / 0.4
    near(ours(name, adapters, weights, density=0.4, **options), expected, SINGLE)


@pytest.mark.parametrize("shape", SHAPES)
def test_their_rescale_restores_the_sum_of_sizes_of_each_adapter(shape, monkeypatch):
    """So it is ours with each weight times density·Σ|ΔW| / Σ|m∘ΔW|, which is near 1 for many entries."""
    adapters, tensors = full_rank(shape)
    masks = drop_alike(monkeypatch, shape, 0.4)
    expected = theirs("dare_linear", tensors, SIGNED, density=0.4, rescale=True)
    ratios = [float(0.4 * t.abs().sum() / (t * m).abs().sum()) for t, m in zip(tensors, masks, strict=True)]
    assert max(abs(ratio - 1.0) for ratio in ratios) > 1e-3
    weights = [weight * ratio for weight, ratio in zip(SIGNED, ratios, strict=True)]
    near(ours("dare_linear", adapters, weights, density=0.4), expected, SINGLE)


def test_equally_large_entries_at_the_threshold():
    """k = 2 of [[3, 1], [-1, 0]]: they keep 3 and one of the two others, ours both."""
    tensor = torch.tensor([[3.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    kept_there = theirs("ties", [tensor], [1.0], density=0.5)
    assert sorted(np.abs(kept_there).ravel()) == [0.0, 0.0, 1.0, 3.0]
    np.testing.assert_allclose(ours("ties", [of(tensor.tolist())], [1.0], density=0.5), tensor, atol=1e-7)


def test_entries_that_cancel_exactly():
    """Entry (0, 0) cancels, and the sum is negative elsewhere: they take +, ours the majority sign −."""
    pair = [[[3.0, -1.0], [-1.0, -2.0]], [[-3.0, -1.0], [-1.0, -4.0]]]
    found = theirs("ties", [torch.tensor(one, dtype=torch.float64) for one in pair], [1.0, 1.0], density=1.0)
    np.testing.assert_array_equal(found, [[3.0, -1.0], [-1.0, -3.0]])
    merged = ours("ties", [of(one) for one in pair], [1.0, 1.0], density=1.0)
    np.testing.assert_allclose(merged, [[-3.0, -1.0], [-1.0, -3.0]], atol=1e-7)


def test_a_negative_weight_under_the_mean():
    """Their divisor is the sum of the agreeing weights with their signs, which takes a negative weight back."""
    rows = [[2.0, 4.0], [0.0, 0.0]]
    found = theirs("ties", [torch.tensor(rows, dtype=torch.float64)], [-0.5], density=1.0)
    np.testing.assert_array_equal(found, rows)
    for normalize, factor in {"weights": -1.0, "count": -0.5}.items():
        merged = ours("ties", [of(rows)], [-0.5], density=1.0, normalize=normalize)
        np.testing.assert_allclose(merged, np.multiply(rows, factor), atol=1e-7)


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_slerp(at):
    adapters, tensors = full_rank((9, 6), count=2)
    group = inputs.TensorGroup.from_tensors(tensors, base_index=0)
    (expected,) = registry.get("slerp")((group,), parameters={"t": at})
    one, two = torch.eye(2, dtype=torch.float64).unsqueeze(2)
    mix = slerp(one, two, torch.tensor([at], dtype=torch.float64), inner_products(adapters))
    near(ours("task_arithmetic", adapters, mix[:, 0].tolist()), expected.numpy(), 1e-12)


@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0], [0.2, 1.0, 0.4, 0.7]])
def test_weights_over_the_depth_are_their_gradients_and_filters(values):
    modules = [f"layers.{layer}.{part}" for layer in range(5) for part in ("q", "up")]
    rules = [{"modules": "*.up", "weight": 0.25}, {"weight": values}]
    found = scheduled(rules, modules, ["a"], [1.0])
    setting = [config.ConditionalParameter(filter="up", value=0.25), config.ConditionalParameter(value=values)]
    read = partial(config.evaluate_setting, setting=setting, validate=float)
    expected = {module: read(module, t=int(module.split(".")[1]) / 4) for module in modules}
    assert {module: found.get(module, (1.0,))[0] for module in modules} == pytest.approx(expected)
