"""What was learned is stored once, used by merges, and enough to make them again, bit for bit, without any data."""

from __future__ import annotations

import json

import pytest
import torch

from adapterbank.errors import InUseError, NotFoundError, UsageError
from tests import hook
from tests.bank import dense
from tests.bank.state import state

NAMES = ("sql", "math", "law")
REFS = tuple(f"{name}@1" for name in NAMES)
ONES = dict.fromkeys(REFS, 1.0)


@pytest.fixture
def three(bank, add):
    return {f"{name}@1": add(name, seed=seed, rank=3) for seed, name in enumerate(NAMES)}


@pytest.fixture
def setting():
    return hook.setting(list(REFS))


def bits(bank, ref, tmp_path):
    bank.export(ref, tmp_path / ref)
    return (tmp_path / ref / "adapter_model.safetensors").read_bytes()


def test_statistics_are_of_a_version_and_kept_once(bank, place, three, setting):
    made = bank.calibrate("gram", REFS, setting)
    assert [(each.kind, each.family, each.versions) for each in made] == [("gram", "statistics", (ref,)) for ref in REFS]
    before = state(place)
    assert bank.calibrate("gram", REFS, hook.setting(list(REFS))) == made and state(place) == before
    assert bank.artefacts(ref="math@1") == [made[1]] == bank.artefacts(kind="gram", ref="math")
    assert bank.artefact(made[0].ref) == made[0]
    assert bank.about_artefact(made[0].ref)["tokens"] == 16


@pytest.mark.parametrize(("method", "needs"), [("regmean", 3), ("regmean_plus_plus", 3), ("fisher", 3)])
def test_a_merge_with_data_is_replayed_from_what_is_stored(bank, three, setting, tmp_path, method, needs):
    merged = bank.merge(method, ONES, name="m", setting=setting)
    assert len(merged.artefacts) == needs and len(bank.artefacts()) == needs
    recipe = json.loads(bank.recipe("m").body["recipe"])
    assert [f"sha256:{digest[:12]}" for digest in recipe["artefacts"]] == list(merged.artefacts)
    assert bank.replay("m").outcome == "bits"
    again = bank.merge(method, ONES, name="m")  # the stored ones are found
    assert (again.status, again.ref) == ("unchanged", "m@1")
    assert [part.version.ref for part in bank.revert("m", tmp_path / "parts").constituents] == list(REFS)
    assert bank.verify().problems == ()


def test_regmean_is_the_least_squares_solution_of_the_stored_grams(bank, three, setting, tmp_path):
    bank.merge(
        "regmean", ONES, name="m", rank="exact", setting=setting, options={"ridge": 0.0, "reduce_non_diagonal_ratio": 1.0}
    )
    values = [dense.deltas(folder) for folder in three.values()]
    tasks = setting.arranged(list(REFS)).tasks.values()
    name = "encoder.layer.0.attention.query"  # its inputs are the data themselves
    grams = [sum(x.double().T @ x.double() for x, _ in task.batches).numpy() / 16 for task in tasks]
    wanted = sum(d[name] @ G for d, G in zip(values, grams, strict=True)) @ torch.linalg.inv(torch.tensor(sum(grams))).numpy()
    bank.export("m", tmp_path / "out")
    assert dense.distance({name: dense.deltas(tmp_path / "out")[name]}, {name: wanted}) < 1e-5


def test_coefficients_are_learned_merged_and_replayed(bank, three, setting):
    merged = bank.merge("adamerging", ONES, name="m", setting=setting, options={"steps": 3, "granularity": "task"}, seed=4)
    learned = bank.artefacts(family="coefficients")
    assert [each.kind for each in learned] == ["adamerging"] and merged.artefacts == (learned[0].ref,)
    assert bank.about_artefact(learned[0].ref)["seed"] == 4
    assert bank.replay("m").outcome == "bits"
    values = bank.coefficients(learned[0].ref)
    assert tuple(values.values.shape) == (3, 3) and sorted(values.names) == sorted(bank.find(ref).content for ref in REFS)
    assert bank.merge_coefficients(learned[0].ref, name="m").status == "unchanged"
    other = bank.calibrate("frank_wolfe", REFS, setting, options={"max_iters": 1})[0]
    compared = bank.compare_coefficients([learned[0].ref, other.ref])
    assert compared.kinds == ("adamerging", "frank_wolfe") and set(compared.means[other.ref]) == set(REFS)
    assert compared.cosine[0][0] == pytest.approx(1.0) and 0.0 < compared.cosine[0][1] <= 1.0


def test_what_a_merge_used_stays_and_what_nothing_uses_may_go(bank, three, setting):
    used = bank.merge("regmean", ONES, name="m", setting=setting).artefacts
    spare = bank.calibrate("fisher", ["sql@1"], setting)[0]
    with pytest.raises(InUseError, match="needed by version m@1"):
        bank.remove_artefacts(used[:1])
    assert bank.remove_artefacts([spare.ref], dry_run=True).objects == 1 and len(bank.artefacts()) == 4
    assert bank.remove_artefacts([spare.ref]).objects == 1 and len(bank.artefacts()) == 3
    with pytest.raises(NotFoundError, match="no artefact"):
        bank.artefact(spare.ref)
    bank.remove(["m@1"])
    assert len(bank.artefacts()) == 3, "statistics belong to their versions"
    assert bank.remove(["sql@1"]).objects >= 2 and len(bank.artefacts()) == 2
    assert bank.gc(grace=0.0).objects == () and bank.verify().problems == ()


def test_coefficients_hold_their_versions_until_they_go(bank, three, setting):
    learned = bank.calibrate("adamerging", REFS, setting, options={"steps": 1})[0]
    with pytest.raises(InUseError, match="artefact adamerging"):
        bank.remove(["law@1"])
    bank.remove_artefacts([learned.ref])
    assert bank.remove(["law@1"]).refs == ("law@1",)


def test_a_replay_says_which_artefact_is_gone(bank, three, setting, place):
    bank.merge("regmean", ONES, name="m", setting=setting)
    gone = bank.artefacts(ref="math@1")[0]
    for file in (place / "objects" / gone.object[:2]).iterdir():
        file.unlink()
    with pytest.raises(NotFoundError, match=rf"artefact {gone.ref} \(gram of math@1\) is gone"):
        bank.replay("m")
    assert [problem.code for problem in bank.verify(["m@1"]).problems] != []


def test_what_is_missing_or_made_for_others_is_told(bank, three, setting):
    with pytest.raises(NotFoundError, match=r"regmean needs the gram of sql@1, math@1, law@1") as caught:
        bank.merge("regmean", ONES, name="m")
    assert caught.value.hint.startswith("adapterbank calibrate gram sql@1 math@1 law@1 --with")
    with pytest.raises(NotFoundError, match="adamerging needs coefficients"):
        bank.merge("adamerging", ONES, name="m")
    gram = bank.calibrate("gram", ["sql@1"], setting)[0]
    with pytest.raises(UsageError, match=r"gram of sql@1, not of what is merged"):
        bank.merge("regmean", {"math@1": 1.0}, name="m", using=[gram.ref])
    with pytest.raises(UsageError, match="statistics, not coefficients"):
        bank.coefficients(gram.ref)
    with pytest.raises(UsageError, match="takes no data"):
        bank.merge("ties", ONES, name="m", setting=setting)
    with pytest.raises(UsageError, match="no option 'step'"):
        bank.merge("adamerging", ONES, name="m", setting=setting, options={"step": 3})
    with pytest.raises(UsageError, match="no task for law@1"):
        bank.calibrate("gram", REFS, hook.setting(list(REFS[:2])))
    with pytest.raises(UsageError, match="unknown calibration 'gramm': did you mean 'gram'"):
        bank.calibrate("gramm", REFS, setting)
    with pytest.raises(UsageError, match=r"expected adapterbank\.calibration\.tasks\.Setting"):
        bank.calibrate("gram", REFS, None)
    assert [version.name for version in bank.versions()] == sorted(NAMES)


def test_using_names_an_artefact_or_a_kind(bank, three, setting):
    first = [each.ref for each in bank.calibrate("gram", REFS, setting)]
    other = hook.setting(list(reversed(REFS)))
    second = [each.ref for each in bank.calibrate("gram", REFS, other)]
    assert bank.merge("regmean", ONES, name="newest").artefacts == tuple(second)
    assert bank.merge("regmean", ONES, name="named", using=first).artefacts == tuple(first)
    assert bank.merge("regmean", ONES, name="kind", using=["gram"]).artefacts == tuple(second)
