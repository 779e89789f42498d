"""What was learned, judged on data that it did not see: with the merge, in its record, and in the story of coefficients."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from adapterbank.calibration.tasks import Setting
from adapterbank.ways.load import load
from tests import hook

REFS = ("sql@1", "math@1", "law@1")
ONES = dict.fromkeys(REFS, 1.0)
METHODS = {
    "regmean": {}, "regmean_plus_plus": {}, "fisher": {},
    "adamerging": {"steps": 3, "lr": 0.1}, "frank_wolfe": {"max_iters": 2},
    "map": {"points": 4, "tolerance": 0.0}, "m2n2": {"generations": 8},
    "dam_rank_masks": {"max_steps": 2, "max_adamerging_steps": 2},
}  # fmt: skip


@pytest.fixture
def three(bank, add):
    return [add(ref.removesuffix("@1"), seed=seed, rank=3) for seed, ref in enumerate(REFS)]


@pytest.fixture
def setting():
    return hook.setting(list(REFS))


@pytest.fixture
def same(setting):
    """Judged by the very data that it learns from: then a procedure's own report says what the judgement must be."""
    return replace(setting, held_out=setting.tasks)


def own(found, rank=None):
    return {row.objective: (row.before, row.after) for row in found.measured if row.own and row.rank == rank}


@pytest.mark.parametrize("method", METHODS)
def test_a_merge_shows_and_keeps_how_its_objective_went_before_and_after_the_cut(bank, three, setting, method):
    merged = bank.merge(method, ONES, name="m", setting=setting, options=METHODS[method], rank=2)
    told = merged.held_out
    assert told.examples == 3 * 2 * 8 and {row.rank for row in told.measured} == {None, 2}
    assert next(row.rank for row in told.measured if row.own) is None
    kept = bank.explain("m").held_out
    assert kept["measured"] == [{**asdict(row), "tasks": {r: list(p) for r, p in row.tasks.items()}} for row in told.measured]
    assert bank.replay("m").outcome == "bits"
    again = bank.merge(method, ONES, name="m", rank=2, options=json.loads(bank.recipe("m").body["recipe"])["options"])
    assert (again.status, again.held_out) == ("unchanged", None)


@pytest.mark.parametrize(("method", "figure"), [("regmean", "regmean_loss"), ("fisher", "fisher_loss")])
@pytest.mark.parametrize("weights", [ONES, {"sql@1": 1.0, "math@1": -0.5, "law@1": 2.0}])
def test_on_the_data_that_it_learned_from_the_judgement_is_the_merges_own_report(bank, three, same, method, figure, weights):
    merged = bank.merge(method, weights, name="m", setting=same)
    before, after = own(merged.held_out)[figure]
    assert before == pytest.approx(merged.report["average_loss"], rel=1e-4)
    assert after == pytest.approx(merged.report[figure], rel=1e-4) and after < before


def test_so_it_is_for_regmean_behind_merged_layers(bank, three, same):
    merged = bank.merge("regmean_plus_plus", ONES, name="m", setting=same)
    before, after = own(merged.held_out)["regmean_loss"]
    assert (before, after) == pytest.approx((merged.report["average_loss"], merged.report["regmean_loss"]), rel=1e-4)


@pytest.mark.parametrize("method", ["adamerging", "frank_wolfe", "map", "m2n2"])
def test_so_it_is_for_coefficients_whose_story_holds_it(bank, three, same, method):
    made = bank.calibrate(method, REFS, same, options=METHODS[method])
    stories = [bank.about_artefact(each.ref) for each in made]
    name = {"adamerging": "entropy", "m2n2": "accuracy"}.get(method, "cross_entropy")
    before, after = own(made.held_out)[name]
    told = [story["after"]["calibration"]["mean"][name] for story in stories]
    assert before == pytest.approx(stories[0]["before"]["calibration"]["mean"][name], rel=1e-5)
    assert after == pytest.approx(told[0], rel=1e-5)
    assert [point.value for point in made.held_out.points] == pytest.approx(told if len(told) > 1 else [], rel=1e-5)
    for number, story in enumerate(stories, start=1):
        assert (story["number"], story["held_out"]["examples"]) == (number, 48)
        assert len(story["held_out"]["points"]) == len(made.held_out.points)
    if method == "frank_wolfe":
        gaps, trace = stories[0]["gaps"], stories[0]["trace"]
        assert own(made.held_out)["gap"] == pytest.approx((gaps[0], gaps[trace.index(min(trace))]), rel=1e-3)
    if method == "map":
        assert all(point.non_dominated for point in made.held_out.points), "a front on the data that it was found on"
    if method == "m2n2":
        assert after >= before


def test_the_points_of_a_front_go_with_the_merge_of_its_first(bank, three, setting):
    merged = bank.merge("map", ONES, name="m", setting=setting, options=METHODS["map"])
    made = bank.calibrate("map", REFS, setting, options=METHODS["map"])
    assert merged.held_out.points == made.held_out.points and len(made) == len(made.held_out.points) > 1
    assert merged.artefacts == (made[0].ref,)


def test_other_weights_and_schedules_are_judged_as_they_are(bank, three, setting):
    options = {"steps": 1, "lr": 0.0}
    merged = bank.merge("adamerging", {**ONES, "law@1": 0.0}, name="m", setting=setting, options=options)
    model = hook.Tiny()
    before, after = own(merged.held_out)["entropy"]
    assert before == pytest.approx(after)
    bank.merge("task_arithmetic", {"sql@1": 0.3, "math@1": 0.3}, name="sum", rank="exact")
    expected = _entropy(bank, "sum@1", setting, model)
    assert after == pytest.approx(expected, rel=1e-5)


def _entropy(bank, ref, setting, model):
    with load(bank.rooms, bank.find(ref)) as loaded, torch.no_grad():
        for name, factors in loaded.adapter.modules.items():
            model.get_submodule(name).weight += factors.scaling * factors.B.float() @ factors.A.float()
    means = []
    for each in setting.held_out.values():
        with torch.no_grad():
            p = torch.cat([each.outputs(model, b) for b in each.batches]).softmax(-1)
        means.append(float(-(p * p.log()).sum(-1).mean()))
    return sum(means) / len(means)


def test_without_data_that_is_held_out_there_is_no_judgement(bank, three, setting):
    for number, given in enumerate((Setting(setting.model, setting.tasks), setting)):
        merged = bank.merge("regmean", ONES, name=f"m{number}", setting=given, held_out=0 if given.held_out else 16)
        assert merged.held_out is None and bank.explain(f"m{number}").held_out is None
    partly = Setting(setting.model, setting.tasks, dict(list(setting.held_out.items())[:2]))
    assert bank.calibrate("gram", REFS, partly).held_out is None
    unlabelled = {ref: replace(task, labels=None) for ref, task in setting.held_out.items()}
    made = bank.calibrate("m2n2", REFS, replace(setting, held_out=unlabelled), options={"generations": 1})
    assert made.held_out is None and bank.about_artefact(made[0].ref)["held_out"] is None


def test_no_more_batches_judge_than_asked_for(bank, three, setting):
    assert bank.merge("fisher", ONES, name="m", setting=setting, held_out=1).held_out.examples == 3 * 8


def test_a_merge_with_one_more_is_judged_again(bank, three, setting):
    first = dict.fromkeys(REFS[:2], 1.0)
    bank.merge("regmean", first, name="m", setting=setting)
    more = bank.merge_again("m", add={"law": 1.0}, setting=setting)
    assert set(more.held_out.measured[0].tasks) == set(REFS)
