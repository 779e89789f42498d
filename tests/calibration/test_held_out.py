"""Objectives on held out data: each against its definition with deltas in the weights, one token or example at a time."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from adapterbank.calibration.attached import attached
from adapterbank.calibration.delta_losses import fisher_loss, regmean_loss, regmean_loss_behind
from adapterbank.calibration.frank_wolfe import task_slope
from adapterbank.calibration.held_out import JUDGING, Pair, examples, held_out
from adapterbank.calibration.judging import Case
from adapterbank.calibration.merged_gram import layer_of
from adapterbank.calibration.model_scores import answers, answers_and_gap
from adapterbank.calibration.procedures import PROCEDURES
from adapterbank.calibration.simplex import Simplex
from adapterbank.calibration.tasks import Setting
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta
from adapterbank.merge.inputs import Inputs
from tests.calibration.models import SHAPES, Tiny, adapter, task, weights_added

NAMES = ["c" * 64, "a" * 64, "b" * 64]  # not in the order that a merge sorts them in
ADAPTERS = [
    adapter(1, 2, modules=tuple(SHAPES)),
    adapter(2, 3, scaling=0.5),
    adapter(3, 1, modules=[m for m in SHAPES if m not in ("words", "layers.1.down")]),
]
WEIGHTS = [1.0, -0.5, 2.0]
MERGED = adapter(9, 2, modules=tuple(SHAPES))
ANOTHER = adapter(8, 1, modules=tuple(SHAPES))


def case(weights=WEIGHTS, result=MERGED, **options) -> Case:
    setting = Setting(Tiny(), {f"task{i}@1": task(i, 2, padded=True) for i in range(3)})
    return Case(setting, Inputs.of(ADAPTERS, weights, NAMES, 0, ordered=True), result, options)


def dense(value: Adapter, module: str) -> np.ndarray:
    shape = (SHAPES[module][0], SHAPES[module][1])
    return delta(value.modules[module]).numpy() if module in value.modules else np.zeros(shape)


def part(value: Adapter, keep) -> Adapter:
    return Adapter({name: factors for name, factors in value.modules.items() if keep(name)})


def inputs_seen(given: Case, parts: list[Adapter], index: int) -> dict[str, list[np.ndarray]]:
    """What goes into each module at every token that counts, the deltas of ``parts`` in the weights; one-hot for words."""
    model, seen = given.setting.model, defaultdict(list)
    for value in parts:
        model = weights_added(model, [value], torch.ones(1, len(value.modules)))
    each = list(given.setting.tasks.values())[index]
    caught = {}
    for b in each.batches:
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(lambda m, args, name=name: caught.update({name: args[0]}))
            for name in SHAPES
        ]
        with torch.no_grad():
            model(b["tokens"], b["attention_mask"])
        for hook in hooks:
            hook.remove()
        for n, t in b["attention_mask"].nonzero().tolist():
            for name, x in caught.items():
                seen[name].append(np.eye(SHAPES[name][1])[x[n, t]] if name == "words" else x[n, t].numpy())
    return seen


def loss_of_answers(given: Case, weights, merged: Adapter, seen_by) -> tuple[float, dict[str, float]]:
    """``seen_by(i, module)``: all inputs of the module with adapter i. By tasks, and over all."""
    lost, whole = np.zeros(3), np.zeros(3)
    for i, value in enumerate(ADAPTERS):
        for module in SHAPES:
            wanted = np.sign(weights[i]) * dense(value, module)
            xs = seen_by(i, module)
            for x in xs:
                lost[i] += abs(weights[i]) * np.sum(((dense(merged, module) - wanted) @ x) ** 2) / len(xs)
                whole[i] += abs(weights[i]) * np.sum((wanted @ x) ** 2) / len(xs)
    return np.sqrt(lost.sum() / whole.sum()), dict(zip(given.setting.tasks, np.sqrt(lost / whole), strict=True))


@pytest.mark.parametrize("weights", [WEIGHTS, [1.0, 1.0, 1.0]])
def test_the_loss_of_regmean_is_that_of_the_answers_token_by_token(weights):
    given = case(weights)
    measure = regmean_loss(given)
    seen = [inputs_seen(given, [value], i) for i, value in enumerate(ADAPTERS)]
    for merged in (MERGED, ANOTHER):
        value, tasks = loss_of_answers(given, weights, merged, lambda i, module: seen[i][module])
        found = measure(merged)["regmean_loss"]
        assert found.value == pytest.approx(value, rel=1e-5)
        assert found.tasks == pytest.approx(tasks, rel=1e-5)


def test_behind_merged_layers_the_inputs_are_those_that_come_through_the_result():
    given = case(result=ANOTHER)
    order = ["words", "layers.0", "layers.1"]
    seen: dict[tuple[int, str], list[np.ndarray]] = {}
    for place, layer in enumerate(order):
        earlier = part(ANOTHER, lambda name, place=place: layer_of(name) in order[:place])
        for i, value in enumerate(ADAPTERS):
            own = part(value, lambda name, layer=layer: layer_of(name) == layer)
            there = inputs_seen(given, [each for each in (earlier, own) if each.modules], i)
            seen |= {(i, name): xs for name, xs in there.items() if layer_of(name) == layer}
    value, tasks = loss_of_answers(given, WEIGHTS, MERGED, lambda i, module: seen[i, module])
    found = regmean_loss_behind(given)(MERGED)["regmean_loss"]
    assert found.value == pytest.approx(value, rel=1e-5)
    assert found.tasks == pytest.approx(tasks, rel=1e-5)
    assert regmean_loss(given)(MERGED)["regmean_loss"].value != pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_of_fisher_is_its_quadratic_example_by_example(normalize):
    given = case(classes="given", normalize_fisher_weight=normalize)
    lost, whole = np.zeros(3), np.zeros(3)
    for i, (value, each) in enumerate(zip(ADAPTERS, given.setting.tasks.values(), strict=True)):
        model = weights_added(given.setting.model, [value], torch.ones(1, len(value.modules))).requires_grad_(True)
        F = {name: np.zeros(SHAPES[name]) for name in SHAPES}
        for b in each.batches:
            for n in range(len(b["tokens"])):
                log = model(b["tokens"][n : n + 1], b["attention_mask"][n : n + 1]).log_softmax(1)[0, b["labels"][n]]
                for name, g in zip(F, torch.autograd.grad(log, [model.get_submodule(m).weight for m in F]), strict=True):
                    F[name] += (g.T if name == "words" else g).square().numpy() / 10
        size = np.sqrt(sum(np.sum(own**2) for own in F.values())) if normalize else 1.0
        for name, own in F.items():
            wanted = np.sign(WEIGHTS[i]) * dense(value, name)
            lost[i] += abs(WEIGHTS[i]) * np.sum(own / size * (dense(MERGED, name) - wanted) ** 2)
            whole[i] += abs(WEIGHTS[i]) * np.sum(own / size * wanted**2)
    found = fisher_loss(given)(MERGED)["fisher_loss"]
    assert found.value == pytest.approx(np.sqrt(lost.sum() / whole.sum()), rel=1e-5)
    assert found.tasks == pytest.approx(dict(zip(given.setting.tasks, np.sqrt(lost / whole), strict=True)), rel=1e-5)


def test_answers_are_those_of_the_model_with_the_merge_in_its_weights():
    given = case()
    model, found = weights_added(given.setting.model, [MERGED], torch.ones(1, len(SHAPES))), answers(given)(MERGED)
    means = defaultdict(list)
    for ref, each in given.setting.tasks.items():
        logits = np.concatenate([each.outputs(model, b).detach().numpy() for b in each.batches])
        labels = np.concatenate([b["labels"].numpy() for b in each.batches])
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        right = p[range(len(labels)), labels]
        expected = {
            "entropy": -(p * np.log(p)).sum(axis=1).mean(), "cross_entropy": -np.log(right).mean(),
            "accuracy": (p.argmax(axis=1) == labels).mean(), "likelihood": right.mean(),
        }  # fmt: skip
        for name, value in expected.items():
            assert found[name].tasks[ref] == pytest.approx(value, rel=1e-9)
            means[name].append(value)
    assert {name: score.value for name, score in found.items()} == pytest.approx({k: np.mean(v) for k, v in means.items()})


def mean_loss_gradients(given: Case, merged: Adapter) -> dict[str, Tensor]:
    """Of the mean loss over tasks, with respect to the dense weights, ``[d_out, d_in]``."""
    model = weights_added(given.setting.model, [merged], torch.ones(1, len(merged.modules))).requires_grad_(True)
    losses = []
    for each in given.setting.tasks.values():
        per_batch = [torch.nn.functional.cross_entropy(each.outputs(model, b), b["labels"]) for b in each.batches]
        losses.append(torch.stack(per_batch).mean())
    torch.stack(losses).mean().backward()
    found = {name: model.get_submodule(name).weight.grad for name in SHAPES}
    return {name: gradient.T if name == "words" else gradient for name, gradient in found.items()}


@pytest.mark.parametrize(("granularity", "scale"), [("layer", 1.0), ("task", 0.7)])
def test_the_gap_is_the_inner_product_of_the_dense_gradient_with_the_way_to_the_best_corner(granularity, scale):
    given = case(granularity=granularity, scale=scale, objective="cross_entropy")
    gradients = mean_loss_gradients(given, MERGED)
    slopes = np.array([[np.sum(g.numpy() * dense(value, m)) for m, g in gradients.items()] for value in ADAPTERS])
    best = slopes.min(axis=0).sum() if granularity == "layer" else slopes.sum(axis=1).min()
    ours = sum(np.sum(g.numpy() * dense(MERGED, m)) for m, g in gradients.items())
    assert answers_and_gap(given)(MERGED)["gap"].value == pytest.approx(ours - scale * best, rel=1e-9)


def test_the_gap_of_coefficients_is_that_of_the_walk():
    given = case(granularity="layer", scale=1.0, objective="cross_entropy")
    with attached(given.setting.model, ADAPTERS) as site:
        c = torch.rand(3, len(site.modules), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        c = c / c.sum(dim=0)
        slopes = [task_slope(each, given.setting, site, "cross_entropy", c)[1] for each in given.setting.tasks.values()]
        expected = Simplex().gap(c, torch.stack(slopes).mean(dim=0))
        modules = {}
        for place, name in enumerate(site.modules):
            own = [value.modules.get(name) for value in ADAPTERS]
            pairs = [(f, float(c[i, place])) for i, f in enumerate(own) if f is not None]
            A, B = torch.cat([f.A for f, _ in pairs]), torch.cat([f.B * f.scaling * share for f, share in pairs], dim=1)
            modules[name] = replace(pairs[0][0], A=A, B=B, scaling=1.0)
    found = answers_and_gap(given)(Adapter(modules))["gap"].value
    assert found == pytest.approx(expected, rel=1e-9) and expected > 0.0


def test_before_is_the_best_start_after_the_result_and_every_result_a_point():
    given, steps = case(score="correct"), []
    told = {name: answers(given)(value) for name, value in (("merged", MERGED), ("another", ANOTHER), ("third", ADAPTERS[1]))}
    pairs = [Pair([ANOTHER, ADAPTERS[1]], MERGED), Pair([MERGED], ANOTHER, rank=3)]
    results = [MERGED, ANOTHER, MERGED]
    found = held_out("m2n2", given, pairs, results, lambda done, total: steps.append((done, total)))
    assert steps == [(done, 8) for done in range(1, 9)]
    assert (found.start, found.examples) == ("the best adapter alone", 30)
    first, *others = [row for row in found.measured if row.rank is None]
    assert (first.objective, first.own, first.larger_is_better) == ("accuracy", True, True)
    assert [row.own for row in others] == [False] * 3
    best = max(("another", "third"), key=lambda name: told[name]["accuracy"].value)
    for row in (first, *others):
        assert row.before == told[best][row.objective].value and row.after == told["merged"][row.objective].value
        assert row.tasks == {
            ref: (told[best][row.objective].tasks[ref], told["merged"][row.objective].tasks[ref]) for ref in given.setting.tasks
        }
    cut = next(row for row in found.measured if row.rank == 3 and row.own)
    assert (cut.before, cut.after) == (first.after, told["another"]["accuracy"].value)
    values = [list(told[name]["accuracy"].tasks.values()) for name in ("merged", "another", "merged")]
    beaten = [any(all(b >= a for a, b in zip(own, o, strict=True)) and o != own for o in values) for own in values]
    assert [point.non_dominated for point in found.points] == [not each for each in beaten]
    assert [(point.number, list(point.tasks.values())) for point in found.points] == list(enumerate(values, start=1))


def test_the_least_loss_is_the_best_start():
    given = case(objective="entropy", init=0.3, clamp=True)
    row = held_out("adamerging", given, [Pair([MERGED, ANOTHER], MERGED)]).measured[0]
    assert row.objective == "entropy" and not row.larger_is_better
    assert row.before == min(answers(given)(value)["entropy"].value for value in (MERGED, ANOTHER))


def test_every_procedure_is_judged_by_something_of_its_own_from_where_it_starts():
    assert JUDGING.keys() == PROCEDURES.keys()
    assert JUDGING["adamerging"].coefficients({"init": 1.5, "clamp": True}, 2).tolist() == [[1.0, 1.0]]
    assert JUDGING["adamerging"].start({"init": 1.5, "clamp": False}) == "every coefficient 1.5"
    assert JUDGING["frank_wolfe"].coefficients({"scale": 2.0}, 4).tolist() == [[0.5] * 4]
    assert JUDGING["m2n2"].coefficients({}, 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert JUDGING["map"].own({"metric": "loss"}) == ("cross_entropy",)


def test_examples_are_counted_also_without_labels():
    given = case().setting
    unlabelled = Setting(given.model, {ref: replace(each, labels=None) for ref, each in given.tasks.items()})
    assert examples(given) == examples(unlabelled) == 3 * 2 * 5
