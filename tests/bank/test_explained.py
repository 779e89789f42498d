"""Explanations, comparisons, blends and clusters against dense references."""

from __future__ import annotations

import numpy as np
import pytest

from adapterbank.errors import ConflictError, NotFoundError, UsageError
from tests import hook
from tests.bank import dense
from tests.bank.state import state

WEIGHTS = {"sql@1": 1.0, "math@1": -0.5, "law@1": 0.75}


@pytest.fixture
def three(bank, add):
    return {f"{name}@1": add(name, seed=seed, rank=3) for seed, name in enumerate(("sql", "math", "law"))}


def flat(deltas):
    return np.concatenate([deltas[name].ravel() for name in sorted(deltas)])


def test_an_explanation_is_that_of_the_dense_deltas(bank, three, tmp_path):
    bank.merge("task_arithmetic", WEIGHTS, name="m", rank=3)
    bank.export("m", tmp_path / "m")
    found = bank.explain("m")
    each = [flat(dense.deltas(folder)) for folder in three.values()]
    merged = flat(dense.deltas(tmp_path / "m"))
    norms = [np.linalg.norm(a) for a in each]
    assert (found.ref, found.inputs, found.weights) == ("m@1", tuple(WEIGHTS), tuple(WEIGHTS.values()))
    np.testing.assert_allclose(found.norms, norms, rtol=1e-6)
    cosine = [[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in [*each, merged]] for a in each]
    np.testing.assert_allclose(found.cosine, np.array(cosine)[:, :3], atol=1e-6)
    np.testing.assert_allclose(found.kept, np.array(cosine)[:, 3], atol=1e-6)
    assert found.merged_norm == pytest.approx(np.linalg.norm(merged), rel=1e-6)
    assert found.residual == bank.recipe("m").residual and len(found.modules) == 3
    assert found.modules[0].residual == pytest.approx(bank.recipe("m").body["residuals"][found.modules[0].name])
    assert 0.4 < found.disagreement < 0.6 and 0.0 < found.cancelled < 1.0


def test_an_explanation_before_the_merge_and_of_no_merge(bank, three):
    bank.merge("task_arithmetic", WEIGHTS, name="m")
    planned, made = bank.explain(WEIGHTS), bank.explain("m")
    assert planned.ref is None and planned.kept is None and planned.modules[0].residual is None
    np.testing.assert_allclose(planned.cosine, made.cosine, atol=1e-12)
    assert planned.cancelled == pytest.approx(made.cancelled)
    with pytest.raises(NotFoundError, match="sql@1 is no merge"):
        bank.explain("sql")
    with pytest.raises(UsageError):
        bank.explain({})


def test_a_comparison_has_a_row_per_method_and_stores_nothing(bank, place, three):
    before, seen = state(place), []
    found = bank.compare(
        [("average", {}), ("ties", {"density": 0.3}), ("regmean", {}), ("cat", {})],
        WEIGHTS,
        evaluate=hook.accuracy,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [row.method for row in found.methods] == ["average", "ties", "regmean", "cat"]
    average, ties, regmean, cat = found.methods
    assert regmean.failed.startswith("regmean needs the gram") and regmean.score is None
    assert set(average.scores) == set(WEIGHTS) and average.score == pytest.approx(sum(average.scores.values()) / 3)
    assert cat.residual == 0.0 and cat.rank == 9 and ties.rank == 3 and average.seconds >= 0.0
    assert seen[-1] == (12, 12) and state(place) == before
    assert average.residual == bank.merge("average", WEIGHTS, name="m").residual


def test_what_an_evaluation_must_return(bank, three):
    for wrong in (None, {}, {"a": "good"}, 0.5):
        row = bank.compare([("average", {})], WEIGHTS, evaluate=lambda *_, wrong=wrong: wrong).methods[0]
        assert row.failed.startswith("the evaluation returned")
    with pytest.raises(UsageError, match="nothing to compare"):
        bank.compare([], WEIGHTS)


def test_a_blend_is_exact_in_delta_w_or_cut_with_its_residual(bank, place, three, tmp_path):
    before = state(place)
    blended = bank.blend(WEIGHTS)
    each = {ref: dense.deltas(folder) for ref, folder in three.items()}
    wanted = {name: sum(w * each[ref][name] for ref, w in WEIGHTS.items()) for name in each["sql@1"]}
    got = {name: (f.scaling * f.B.double() @ f.A.double()).numpy() for name, f in blended.adapter.modules.items()}
    assert dense.distance(got, wanted) < 1e-6 and (blended.rank, blended.residual) == (9, 0.0)
    written = bank.write_blend(WEIGHTS, tmp_path / "out", rank=3)
    tail = sum(np.square(np.linalg.svd(M, compute_uv=False)[3:]).sum() for M in wanted.values())
    assert written.residual == pytest.approx((tail / sum(np.square(M).sum() for M in wanted.values())) ** 0.5, rel=1e-6)
    assert dense.distance(dense.deltas(tmp_path / "out"), wanted) == pytest.approx(written.residual, rel=1e-5)
    assert state(place) == before
    with pytest.raises(ConflictError):
        bank.write_blend(WEIGHTS, tmp_path / "out")


def test_clusters_find_families_and_can_be_merged(bank, add, make):
    for seed, name in enumerate(("a", "b")):
        for copy in (1, 2):
            add(f"{name}{copy}", seed=seed, rank=3, alpha=8 * copy)  # the same direction, twice as long
    found = bank.cluster(["a1", "b1", "a2", "b2"], 2)
    assert [each.refs for each in found.clusters] == [("a1@1", "a2@1"), ("b1@1", "b2@1")]
    assert found.within == pytest.approx(1.0, abs=1e-6) and abs(found.between) < 0.3
    merged = bank.cluster(["a1", "b1", "a2", "b2"], 3, method="sub_moe", name="group")
    assert [each.merged for each in merged.clusters].count(None) == 2
    assert bank.recipe(next(each.merged for each in merged.clusters if each.merged)).method == "sub_moe"
    for wrong in (0, 5):
        with pytest.raises(UsageError, match="clusters"):
            bank.cluster(["a1", "b1", "a2", "b2"], wrong)
    with pytest.raises(UsageError, match="a method and a name"):
        bank.cluster(["a1", "b1"], 1, method="average")
