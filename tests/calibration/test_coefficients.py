"""Coefficients learned on a tiny model: each method's own objective, its limits, its seed."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from adapterbank.calibration.adamerging import adamerging
from adapterbank.calibration.attached import attached
from adapterbank.calibration.descent import FreeCoefficients
from adapterbank.calibration.frank_wolfe import frank_wolfe, task_slope
from adapterbank.calibration.natural_niches import natural_niches
from adapterbank.calibration.non_dominated import non_dominated
from adapterbank.calibration.objectives import answers, drawn_batches, entropy, judged, mean_loss, measured, point_scores
from adapterbank.calibration.pareto import pareto
from adapterbank.calibration.perturbed import perturbed
from adapterbank.calibration.rank_masks import rank_masks
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.calibration.unit_masks import MaskLearner, MaskRules
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta
from adapterbank.merge import merge
from adapterbank.merge.artefacts import from_object
from adapterbank.merge.conditions import Conditions
from tests.calibration.models import LINEARS, SHAPES, Tiny, adapter, task, weights_added
from tests.merge.factories import deltas, distance

NAMES = ["c" * 64, "a" * 64, "b" * 64]
ADAPTERS = [
    adapter(1, 2, modules=tuple(SHAPES), size=3.0),
    adapter(2, 3, scaling=0.5, size=4.0),
    adapter(3, 1, modules=[m for m in LINEARS if m != "layers.1.down"], size=2.0),
]
SOLO = ADAPTERS[:1]
FUNCTIONS = {
    "adamerging": (adamerging, {"steps": 5, "lr": 0.05}),
    "frank_wolfe": (frank_wolfe, {"max_iters": 3}),
    "frank_wolfe soft": (frank_wolfe, {"variant": "soft", "max_iters": 2, "ada_iters": 3, "ada_coeff": 0.1}),
    "map": (pareto, {"points": 3}),
    "m2n2": (natural_niches, {"generations": 6, "keep": 2}),
    "dam_rank_masks": (rank_masks, {"max_steps": 3, "max_adamerging_steps": 2, "lr": 0.1, "adv_lr": 0.1}),
}


def setting(**settings):
    tasks = {f"task{i}": task(i, **settings) for i in range(3)}
    return Setting(Tiny(), tasks, {name: task(10 + i, **settings) for i, name in enumerate(tasks)})


def answered_by(value: Adapter) -> Setting:
    """Labels are what the model with one adapter answers: there is something to find."""
    with_it = weights_added(Tiny(), [value], torch.ones(1, len(value.modules)))

    def labels(b):
        with torch.no_grad():
            return with_it(b["tokens"], b["attention_mask"]).argmax(dim=-1)

    found = setting(padded=True)
    relabelled = {name: Task(each.batches, each.outputs, labels) for name, each in found.tasks.items()}
    return Setting(found.model, relabelled)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_every_result_is_an_artefact_with_its_story_and_the_same_for_the_same_seed(case):
    function, options = FUNCTIONS[case]
    steps = []
    given = setting()
    state = {name: value.clone() for name, value in given.model.state_dict().items()}
    results = function(given, ADAPTERS, NAMES, 7, lambda done, total: steps.append((done, total)), **options)
    for found in results:
        assert found.names == tuple(NAMES)
        assert found.modules == tuple(sorted(SHAPES))
        assert found.values.shape == (3, len(SHAPES))
        assert found.values.dtype == torch.float64
        assert found.about["method"] == case.split()[0]
        assert found.about["seed"] == 7
        assert options.items() <= found.about["options"].items()
        for when in ("before", "after"):
            assert set(found.about[when]) == {"calibration"}, "what is held out is not looked at"
            assert set(found.about[when]["calibration"]) == {*given.tasks, "mean"}
        json.dumps(found.about, allow_nan=False)
        again = from_object(bytearray(found.to_object()))
        assert torch.equal(again.values, found.values)
        assert again.about == json.loads(json.dumps(found.about))
    assert steps == [(done, steps[-1][1]) for done in range(1, len(steps) + 1)]
    assert len(steps) <= steps[-1][1]
    assert all(torch.equal(value, state[name]) for name, value in given.model.state_dict().items())
    twice = function(setting(), ADAPTERS, NAMES, 7, **options)
    assert [found.to_object() for found in twice] == [found.to_object() for found in results]


@pytest.mark.parametrize("case", [case for case in FUNCTIONS if case != "frank_wolfe"])
def test_another_seed_draws_otherwise(case):
    function, options = FUNCTIONS[case]
    first, second = (function(setting(), ADAPTERS, NAMES, seed, **options) for seed in (1, 2))
    values = [[found.values for found in results] for results in (first, second)]
    assert len(values[0]) != len(values[1]) or not all(torch.equal(a, b) for a, b in zip(*values, strict=True))


def test_the_judgement_is_that_of_the_merged_weights():
    given = setting(padded=True)
    (found,) = adamerging(given, ADAPTERS, NAMES, **FUNCTIONS["adamerging"][1])
    merged = weights_added(given.model, ADAPTERS, found.values)
    for name, each in given.tasks.items():
        logits = [each.outputs(merged, b).detach().numpy() for b in each.batches]
        labels = np.concatenate([b["labels"].numpy() for b in each.batches])
        p = np.exp(np.concatenate(logits))
        p /= p.sum(axis=1, keepdims=True)
        told = found.about["after"]["calibration"][name]
        assert told["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-9)
        assert told["cross_entropy"] == pytest.approx(-np.log(p[range(len(labels)), labels]).mean(), rel=1e-9)
        assert told["accuracy"] == pytest.approx((p.argmax(axis=1) == labels).mean())
        assert told["likelihood"] == pytest.approx(p[range(len(labels)), labels].mean(), rel=1e-9)


# AdaMerging


@pytest.mark.parametrize("granularity", ["task", "layer"])
def test_no_learning_is_task_arithmetic(granularity):
    (found,) = adamerging(setting(), ADAPTERS, NAMES, steps=3, lr=0.0, granularity=granularity)
    assert torch.equal(found.values, torch.full((3, len(SHAPES)), 0.3, dtype=torch.float64))
    settings = {"names": NAMES, "rank": 6, "dtype": torch.float64}
    ours = merge("adamerging", ADAPTERS, [1.0] * 3, conditions=Conditions(artefacts=(found,)), **settings)
    theirs = merge("task_arithmetic", ADAPTERS, [1.0] * 3, options={"scale": 0.3}, **settings)
    assert distance(deltas(ours.adapter), deltas(theirs.adapter)) < 1e-12


def test_the_entropy_of_one_task_decreases():
    one = Setting(Tiny(), {"task": task(1, batches=1)})
    (found,) = adamerging(one, ADAPTERS, NAMES, steps=60, lr=0.02)
    trace = found.about["trace"]
    assert trace[-1] < trace[0] - 0.05
    before, after = (found.about[when]["calibration"]["mean"]["entropy"] for when in ("before", "after"))
    assert before == pytest.approx(trace[0])
    assert after <= trace[-1] + 1e-3


def test_granularity_task_learns_one_number_per_adapter():
    (by_task,) = adamerging(setting(), ADAPTERS, NAMES, steps=20, lr=0.05, granularity="task")
    (by_layer,) = adamerging(setting(), ADAPTERS, NAMES, steps=20, lr=0.05)
    assert torch.equal(by_task.values, by_task.values[:, :1].expand(-1, len(SHAPES)))
    assert float(by_layer.values.std(dim=1).min()) > 1e-3
    assert float((by_task.values - 0.3).abs().min()) > 1e-3


def test_the_clamp_holds_and_beyond_it_there_is_no_gradient():
    (stuck,) = adamerging(setting(), ADAPTERS, NAMES, steps=5, lr=0.05, init=1.2)
    assert torch.equal(stuck.values, torch.ones(3, len(SHAPES), dtype=torch.float64))
    (free,) = adamerging(setting(), ADAPTERS, NAMES, steps=5, lr=0.05, init=1.2, clamp=False)
    assert float((free.values - 1.2).abs().max()) > 0.05
    (far,) = adamerging(setting(), ADAPTERS, NAMES, steps=40, lr=0.1)
    assert float(far.values.min()) >= 0.0
    assert float(far.values.max()) <= 1.0
    assert {0.0, 1.0} & set(far.values.flatten().tolist()), "no coefficient came to its bound: this shows nothing"


# Frank–Wolfe


@pytest.mark.parametrize("objective", ["entropy", "cross_entropy"])
def test_the_slope_is_the_inner_product_of_gradient_and_delta_and_a_finite_difference(objective):
    given, one = setting(padded=True), task(4, padded=True)
    c = torch.rand(3, len(SHAPES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with attached(given.model, ADAPTERS) as site:
        value, slope = task_slope(one, given, site, objective, c)
        for i, column in [(0, 0), (1, 3), (2, 1)]:
            step = torch.zeros_like(c)
            step[i, column] = 1e-5
            up, down = (task_slope(one, given, site, objective, c + sign * step)[0] for sign in (1.0, -1.0))
            assert float(slope[i, column]) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-9)
    merged = weights_added(given.model, ADAPTERS, c)
    total = 0.0
    for b in one.batches:
        total = total + mean_loss(objective, {"task": one}, merged, {"task": b}) / len(one.batches)
    total.backward()
    assert value == pytest.approx(float(total.detach()), rel=1e-10)
    for column, module in enumerate(sorted(SHAPES)):
        G = merged.get_submodule(module).weight.grad
        G = G.T if module == "words" else G
        for i, each in enumerate(ADAPTERS):
            f = each.modules.get(module)
            expected = 0.0 if f is None else f.scaling * float(torch.trace(f.B.T @ G @ f.A.T))
            assert float(slope[i, column]) == pytest.approx(expected, rel=1e-8, abs=1e-12)
            assert f is None or expected == pytest.approx(float((G * delta(f)).sum()), abs=1e-12)


@pytest.mark.parametrize("variant", ["hard", "soft"])
@pytest.mark.parametrize("granularity", ["task", "layer"])
def test_frank_wolfe_stays_on_the_simplex_and_lowers_loss_and_gap(variant, granularity):
    options = {"variant": variant, "granularity": granularity, "scale": 0.8, "ada_iters": 12, "ada_coeff": 0.05, "max_iters": 5}
    (found,) = frank_wolfe(answered_by(ADAPTERS[1]), ADAPTERS, NAMES, **options)
    assert torch.allclose(found.values.sum(dim=0), torch.full((len(SHAPES),), 0.8, dtype=torch.float64))
    assert float(found.values.min()) >= 0.0
    assert granularity == "layer" or torch.allclose(found.values, found.values[:, :1].expand_as(found.values))
    losses, gaps = found.about["trace"], found.about["gaps"]
    assert len(losses) == len(gaps)
    assert min(losses) < losses[0]
    assert min(gaps) < 0.9 * gaps[0]
    assert min(gaps) >= 0.0
    means = [found.about[when]["calibration"]["mean"]["cross_entropy"] for when in ("before", "after")]
    assert means == pytest.approx([losses[0], min(losses)], rel=1e-6)


def test_frank_wolfe_finds_the_adapter_that_gave_the_labels():
    (found,) = frank_wolfe(answered_by(ADAPTERS[1]), ADAPTERS, NAMES, granularity="task", max_iters=20)
    assert int(found.values[:, 0].argmax()) == 1


# MAP


@pytest.mark.parametrize("variant", ["plain", "nested", "bayesian"])
@pytest.mark.parametrize("metric", ["accuracy", "loss", "entropy"])
def test_a_front_is_not_dominated_by_its_own_measurements(variant, metric):
    given = setting()
    results = pareto(given, ADAPTERS, NAMES, variant=variant, metric=metric, points=4, candidates=512)
    assert 1 <= len(results) <= 4
    key, sign = {"accuracy": ("accuracy", 1), "loss": ("cross_entropy", -1), "entropy": ("entropy", -1)}[metric]
    measurements = torch.tensor([[sign * f.about["after"]["calibration"][t][key] for t in given.tasks] for f in results])
    assert non_dominated(measurements).all()
    means = measurements.mean(dim=1).tolist()
    assert means == sorted(means, reverse=True)
    for found in results:
        assert torch.equal(found.values, found.values[:, :1].expand_as(found.values))
        assert float(found.values.min()) >= 0.0
        assert float(found.values.max()) <= 1.0
        assert set(found.about["predicted"]) == set(given.tasks)


def test_fronts_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="two adapters"):
        pareto(setting(), SOLO, NAMES[:1])
    with pytest.raises(UsageError, match="lower < upper"):
        pareto(setting(), ADAPTERS, NAMES, lower=1.0, upper=1.0)
    with pytest.raises(UsageError, match="expected at least 10"):
        pareto(setting(), ADAPTERS, NAMES, samples=9)
    with pytest.raises(UsageError, match="3 tasks"):
        pareto(setting(), ADAPTERS[:2], NAMES[:2], variant="nested")


# M2N2


@pytest.mark.parametrize("score", ["correct", "likelihood"])
def test_the_best_of_the_archive_is_not_below_its_best_parent(score):
    given = answered_by(ADAPTERS[1])
    results = natural_niches(given, [ADAPTERS[0], ADAPTERS[2]], NAMES[:2], 3, generations=25, score=score, keep=4)
    assert 1 <= len(results) <= 4
    worth = []
    with attached(given.model, [ADAPTERS[0], ADAPTERS[2]]) as site:
        for c in [*torch.eye(2).double()[:, :, None].expand(-1, -1, len(site.modules)), *(f.values for f in results)]:
            site.coefficients = c
            worth.append(np.mean([float(point_scores(each, given.model, score).mean()) for each in given.tasks.values()]))
    trace, before = results[0].about["trace"], results[0].about["before"]["calibration"]["mean"]
    assert score == "likelihood" or before["accuracy"] == pytest.approx(max(worth[:2]))
    assert trace[0] == pytest.approx(max(worth[:2]))
    assert trace[-1] == pytest.approx(worth[2])
    assert trace == sorted(trace)
    assert worth[2] > max(worth[:2]) if score == "likelihood" else worth[2] >= max(worth[:2])
    assert worth[2:] == sorted(worth[2:], reverse=True)
    assert len({f.to_object() for f in results}) == len(results)


# Masks of rank units


def test_without_steps_the_masks_are_one_and_the_rest_is_adamerging():
    options = {"granularity": "layer", "init": 0.4, "clamp": True}
    (masked,) = rank_masks(setting(), ADAPTERS, NAMES, 5, max_steps=0, max_adamerging_steps=12, adamerging_lr=0.03, **options)
    (plain,) = adamerging(setting(), ADAPTERS, NAMES, 5, steps=12, lr=0.03, **options)
    assert torch.equal(masked.values, plain.values)
    assert masked.about["trace"] == plain.about["trace"]
    for module, units in masked.units.items():
        ranks = [a.modules[module].rank if module in a.modules else 0 for a in ADAPTERS]
        expected = [[1.0] * rank + [0.0] * (max(ranks) - rank) for rank in ranks]
        assert units.tolist() == expected


def test_masks_have_mean_one_in_every_module_and_the_merge_answers_as_the_masked_model():
    given = setting()
    (found,) = rank_masks(given, ADAPTERS, NAMES, max_steps=12, max_adamerging_steps=3, lr=0.3, adv_lr=0.05)
    assert set(found.units) == set(SHAPES)
    for module, units in found.units.items():
        count = sum(a.modules[module].rank for a in ADAPTERS if module in a.modules)
        assert float(units.sum()) == pytest.approx(count, rel=1e-6)
        assert float(units.std()) > 1e-3
    settings = {"names": NAMES, "rank": 6, "dtype": torch.float64}
    merged = merge("dam_rank_masks", ADAPTERS, [1.0] * 3, conditions=Conditions(artefacts=(found,)), **settings)
    assert merged.residual < 1e-12
    alone = weights_added(given.model, [merged.adapter], torch.ones(1, len(SHAPES)))
    for name, told in judged(given.tasks, alone).items():
        assert told == pytest.approx(
            found.about["after"]["calibration"][name], rel=1e-5, abs=1e-6
        )  # masks are learned in float32


def test_every_step_begins_again_with_the_first_coefficients_and_bounds_the_perturbations():
    given, rules = setting(), MaskRules(base_lr=0.01, lr=0.1, adv_lr=1.0, trigger_norm=0.2)
    with attached(given.model, ADAPTERS) as site, perturbed(given.model) as place:
        judged(given.tasks, given.model)
        learner = MaskLearner(given, site, place, FreeCoefficients(), rules, 0)
        moved = [float((site.coefficients - 0.3).abs().max()) for _ in range(8) if math.isfinite(learner.step())]
    assert max(moved) < 0.02  # Adam goes hardly farther than its rate in a step; in eight it could go 0.08
    assert min(moved) > 0.002
    assert [float(noise.detach().norm()) for noise in learner.noises.values()] == pytest.approx([0.2] * 3)


class Planted(nn.Module):
    """Two numbers of x decide; x never goes along the third direction, where a trigger would."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.0])))
            self.head.weight.copy_(torch.tensor([[1.0, -1.0, 2.0], [-1.0, 1.0, -2.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(x))


@pytest.mark.parametrize("safe_loss", ["entropy", "consistency"])
def test_the_unit_that_answers_to_a_trigger_gets_the_lowest_mask(safe_loss):
    x = torch.randn(512, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0])
    clean = [Factors(A=torch.eye(3)[k : k + 1], B=torch.eye(3)[:, k : k + 1]) for k in (0, 1)]
    useful = Adapter({"hidden": Factors(A=torch.cat([f.A for f in clean]), B=torch.cat([f.B for f in clean], dim=1))})
    trigger, shift = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0], [0.0], [1.0]])  # large on what x never is
    poisoned = Adapter(
        {"hidden": Factors(A=torch.cat([clean[0].A, trigger]), B=torch.cat([clean[0].B, shift], dim=1))},
    )
    one = Task([x[:256], x[256:]], lambda model, batch: model(batch))
    options = {"max_steps": 60, "max_adamerging_steps": 0, "lr": 0.05, "adv_lr": 1e-2, "trigger_norm": 0.2, "base_lr": 1e-3}
    options |= {"adv_weight": 1.0, "safe_loss": safe_loss}
    (found,) = rank_masks(Setting(Planted(), {"task": one}), [useful, poisoned], NAMES[:2], **options)
    units = found.units["hidden"]
    assert int(units.argmin()) == 3  # the second unit of the second adapter
    assert float(units[1, 1]) < 0.7 * float(units.flatten()[:3].min())
    flips = found.about["flipped"]
    assert flips["before"]["calibration"]["task"] > flips["after"]["calibration"]["task"]


# What they share


def test_a_perturbation_is_added_where_the_model_reads_and_taken_away_again():
    model, b = Tiny().eval(), task(1).batches[0]
    plain = model(b["tokens"])
    value = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with perturbed(model) as place:
        assert torch.equal(model(b["tokens"]), plain)
        assert place.width == 6
        place.value = value
        changed = model(b["tokens"])
    shifted = Tiny().eval()
    with torch.no_grad():
        shifted.words.weight.add_(value)
    assert torch.allclose(changed, shifted(b["tokens"]), atol=1e-14)
    assert torch.equal(model(b["tokens"]), plain)
    linear, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3)
    with perturbed(linear) as place:
        place.value = torch.ones(3)
        assert torch.allclose(linear(x), linear[0](x + 1.0))
        assert torch.allclose(linear(input=x), linear[0](x + 1.0))


def test_entropy_is_that_of_the_softmax():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, 0.0, -math.inf], [900.0, 0.0, 0.0, 0.0]])
    assert entropy(logits[[0, 2]]).tolist() == pytest.approx([math.log(4), 0.0])


def test_tokens_that_do_not_count_are_left_out():
    tokens, mask = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[0, -100, 2], [1, 2, 3]])
    by_token = Task(
        [{"tokens": tokens, "attention_mask": mask}],
        lambda model, batch: model.head(model.words(batch["tokens"])),
        lambda batch: labels,
    )
    model = Tiny().eval()
    logits, right = answers(by_token, model, by_token.batches[0])
    assert right.tolist() == [0, 2, 1, 2]
    assert torch.equal(logits, model.head(model.words(torch.tensor([1, 3, 4, 5]))))
    assert measured(by_token, model)["entropy"] == pytest.approx(float(entropy(logits).mean().detach()))
    unlabelled = Task(by_token.batches, by_token.outputs)
    assert answers(unlabelled, model, by_token.batches[0])[0].shape == (5, 4)
    assert measured(unlabelled, model).keys() == {"entropy"}


def test_every_batch_is_drawn_once_before_any_is_drawn_again():
    tasks = {"a": Task([0, 1, 2], lambda m, b: b), "b": Task([10, 11], lambda m, b: b)}
    draws = drawn_batches(tasks, 4)
    seen = [next(draws) for _ in range(6)]
    assert [sorted(each["a"] for each in part) for part in (seen[:3], seen[3:])] == [[0, 1, 2]] * 2
    assert [sorted(each["b"] for each in seen[at : at + 2]) for at in (0, 2, 4)] == [[10, 11]] * 3
    again = drawn_batches(tasks, 4)
    assert [next(again) for _ in range(6)] == seen


@pytest.mark.parametrize("case", FUNCTIONS)
def test_what_is_missing_is_named(case):
    function, options = FUNCTIONS[case]
    with pytest.raises(UsageError, match="no task"):
        function(Setting(Tiny(), {}), ADAPTERS, NAMES, **options)
    with pytest.raises(UsageError, match="'empty' has no batches"):
        function(Setting(Tiny(), {"empty": task(1, batches=0)}), ADAPTERS, NAMES, **options)
    with pytest.raises(UsageError, match="twice"):
        function(setting(), ADAPTERS[:2], [NAMES[0]] * 2, **options)
    with pytest.raises(UsageError, match="3 adapters and 2 names"):
        function(setting(), ADAPTERS, NAMES[:2], **options)
    unlabelled = Task(task(1).batches, task(1).outputs)
    if case not in ("adamerging", "dam_rank_masks"):
        with pytest.raises(UsageError, match="'bare' has no labels"):
            function(Setting(Tiny(), {"bare": unlabelled}), ADAPTERS, NAMES, **options)
