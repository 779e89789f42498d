"""Merges through the façade against dense references in ΔW space, and their recipes, replays and reverts."""

from __future__ import annotations

import hashlib
import json
from math import floor

import numpy as np
import pytest
import torch

from adapterbank.errors import ConflictError, IncompatibleError, InUseError, NotFoundError, UsageError
from tests.bank import dense
from tests.bank.state import state
from tests.bank.variants import with_dora

WEIGHTS = {"sql@1": 1.0, "math@1": -0.5, "law@1": 0.75}
FULL = 12  # the smaller side of every module: nothing is cut


@pytest.fixture
def three(bank, add):
    """Directories by reference: three adapters of other ranks, α and kinds of scaling."""
    how = {"sql": {"rank": 4, "alpha": 8}, "math": {"rank": 6, "alpha": 3}, "law": {"rank": 2, "alpha": 5, "use_rslora": True}}
    return {f"{name}@1": add(name, seed=seed, **rest) for seed, (name, rest) in enumerate(how.items())}


def keep_largest(D, density):
    sizes = np.sort(np.abs(D), axis=None)[::-1]
    return np.where(np.abs(D) >= sizes[max(1, floor(density * D.size)) - 1], D, 0.0)


def drop(D, density, seed, digest, module):
    """DARE: numpy's Philox4x64-10, its key the first 128 bits of SHA-256, its counter from 1."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\n{digest}\n{module}".encode()).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(D.size).reshape(D.shape)
    return np.where((words >> np.uint64(11)) / 2.0**53 < density, D / density, 0.0)


def consensus(parts):
    """Elect the sign of the sum; where it cancels, that of most entries; the mean of what agrees."""
    stack = np.stack(parts)
    votes = np.sign(stack.sum(0))
    elected = np.where(votes == 0, np.sign(votes.sum()), votes)
    agree = (np.sign(stack) == elected) & (stack != 0)
    return np.where(agree, stack, 0.0).sum(0) / np.maximum(agree.sum(0), 1)


def expected(method, each, weights, digests, seed):
    found = {}
    for module in each[0]:
        D = [deltas[module] for deltas in each]
        if method == "ties":
            found[module] = consensus([w * keep_largest(d, 0.3) for w, d in zip(weights, D, strict=True)])
        elif method.startswith("dare"):
            kept = [w * drop(d, 0.6, seed, name, module) for w, d, name in zip(weights, D, digests, strict=True)]
            found[module] = 0.7 * (sum(kept) if method == "dare_linear" else consensus(kept))
        else:
            total = sum(w * d for w, d in zip(weights, D, strict=True))
            found[module] = total / sum(weights) if method == "average" else 0.7 * total
    return found


OPTIONS = {
    "average": {},
    "task_arithmetic": {"scale": 0.7},
    "ties": {"density": 0.3},
    "dare_linear": {"density": 0.6, "scale": 0.7},
    "dare_ties": {"density": 0.6, "scale": 0.7},
}


def reference(bank, three, method, seed=0):
    each = [dense.deltas(folder) for folder in three.values()]
    return expected(method, each, list(WEIGHTS.values()), [bank.find(ref).content for ref in three], seed)


@pytest.mark.parametrize("method", OPTIONS)
def test_it_equals_its_dense_reference(bank, three, tmp_path, method):
    merged = bank.merge(method, WEIGHTS, name="m", rank=FULL, options=OPTIONS[method], seed=3)
    bank.export("m", tmp_path / "out")
    assert dense.distance(dense.deltas(tmp_path / "out"), reference(bank, three, method, seed=3)) < 1e-6
    assert merged.residual < 1e-6 and merged.warnings == () and merged.rank == FULL


@pytest.mark.parametrize("method", ["ties", "dare_linear", "task_arithmetic"])
def test_the_residual_is_what_the_cut_to_the_largest_rank_lost(bank, three, tmp_path, method):
    merged = bank.merge(method, WEIGHTS, name="m", options=OPTIONS[method])
    bank.export("m", tmp_path / "out")
    wanted = reference(bank, three, method)
    assert merged.rank == bank.find("m").rank == 6
    assert dense.distance(dense.deltas(tmp_path / "out"), wanted) == pytest.approx(merged.residual, rel=1e-5)
    tail = sum(np.square(np.linalg.svd(M, compute_uv=False)[6:]).sum() for M in wanted.values())
    assert merged.residual == pytest.approx((tail / sum(np.square(M).sum() for M in wanted.values())) ** 0.5, rel=1e-6)
    assert bank.recipe("m").residual == merged.residual
    if merged.residual > 0.1:
        assert [problem.code for problem in merged.warnings] == ["large_residual"]
        assert "--rank" in merged.warnings[0].message and "cat" in merged.warnings[0].message


def test_a_merge_is_a_version_with_a_recipe_and_lineage(bank, three):
    merged = bank.merge("ties", WEIGHTS, name="m", options={"density": 0.3}, seed=5, alias="best", tags={"a": "b"}, note="n")
    version = bank.find("m@best")
    assert version == merged.version and (version.method, version.note, dict(version.tags)) == ("ties", "n", {"a": "b"})
    row = bank.recipe("m")
    body = json.loads(row.body["recipe"])
    assert (row.method, row.body["refs"], row.body["forms"]) == ("ties", list(WEIGHTS), {})
    assert body["inputs"] == [{"digest": bank.find(ref).content, "weight": weight} for ref, weight in WEIGHTS.items()]
    assert (body["seed"], body["rank"], body["options"]["density"]) == (5, None, 0.3)
    assert {"torch", "numpy", "adapterbank"} <= set(row.environment)
    assert [edge.dependent for edge in bank.dependents("sql@1")] == ["version m@1"]
    assert bank.recipe("sql@1") is None
    with pytest.raises(InUseError, match="version m@1"):
        bank.remove(["sql@1"])


def test_the_same_recipe_again_is_the_same_version(bank, place, three):
    first = bank.merge("dare_ties", WEIGHTS, name="m", seed=1)
    before = state(place)
    again = bank.merge("dare_ties", WEIGHTS, name="m", seed=1)
    assert (first.status, again.status, again.version) == ("registered", "unchanged", first.version) and state(place) == before
    other = bank.merge("dare_ties", WEIGHTS, name="m", seed=2)
    assert (other.status, other.version.ref) == ("registered", "m@2") and other.version.content != first.version.content


@pytest.mark.parametrize("method", ["ties", "svd", "dare_ties", "cat"])
def test_the_callers_threads_and_the_order_of_inputs_change_no_digest(bank, add, method):
    sizes = {"h.0.q": (256, 192), "h.1.q": (256, 192)}
    for seed, name in enumerate(("sql", "math")):
        add(name, modules=sizes, rank=16, seed=seed)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(bank.merge(method, {"sql": 1.0, "math": 0.5}, name=f"with-{threads}").version.files)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    found.append(bank.merge(method, {"math": 0.5, "sql": 1.0}, name="turned").version.files)
    assert len(set(found)) == 1


def test_a_replay_gives_the_same_bits(bank, place, three):
    bank.merge("ties", WEIGHTS, name="m")
    before = state(place)
    replay = bank.replay("m")
    assert (replay.ref, replay.outcome, replay.difference, dict(replay.changed)) == ("m@1", "bits", 0.0, {})
    assert state(place) == before
    with pytest.raises(NotFoundError, match="sql@1 is no merge"):
        bank.replay("sql")


def test_a_replay_says_which_input_is_bounded_now(bank, three):
    bank.build_basis("b", list(three)[:1], components=0, force=True)
    bank.merge("average", dict.fromkeys(three, 1.0), name="m")
    bank.compact(["sql"], drop_exact=True)
    error = bank.forms("sql")[0].error
    replay = bank.replay("m")
    assert dict(replay.changed) == {"input sql@1": ("exact", f"bounded, b@1, error {error:.3g}")}


def test_a_revert_gives_the_constituents_bit_for_bit(bank, three, tmp_path):
    bank.merge("average", WEIGHTS, name="m")
    done = bank.revert("m", tmp_path / "out")
    assert [(each.version.ref, each.exact) for each in done.constituents] == [(ref, True) for ref in three]
    for ref, folder in three.items():
        for path in folder.iterdir():
            assert (tmp_path / "out" / ref / path.name).read_bytes() == path.read_bytes()


def test_a_merge_of_a_bounded_input_warns_and_is_recorded(bank, three, add, tmp_path):
    for seed in (7, 8):
        add(f"other{seed}", seed=seed, rank=4)
    bank.build_basis("b", ["sql", "other7", "other8"], components=1, force=True)
    bank.merge("average", WEIGHTS, name="before", rank=FULL)
    assert bank.compact(["sql"], drop_exact=True).merges_bounded == ("before@1",)
    merged = bank.merge("average", WEIGHTS, name="after", rank=FULL)
    form = bank.forms("sql")[0]
    assert [(problem.code, problem.where) for problem in merged.warnings] == [("bounded_input", "sql@1")]
    assert bank.recipe("after").body["forms"] == {"sql@1": {"basis": "b@1", "object": form.object, "error": form.error}}
    assert bank.replay("after").outcome == "bits" and bank.replay("after").changed == {}
    replay = bank.replay("before")
    assert replay.outcome == "differs" and 0.0 < replay.difference < 1.0
    reverted = bank.revert("before", tmp_path / "out")
    assert [each.exact for each in reverted.constituents] == [False, True, True]
    assert reverted.constituents[0].error == form.error and (tmp_path / "out" / "sql@1" / "adapterbank.json").exists()
    bank.register(three["sql@1"], name="sql")
    assert bank.replay("before").outcome == "bits"


def test_what_cannot_be_merged_is_refused_by_name(bank, place, three, make, add):
    bank.register(with_dora(make("dora", seed=7)), name="dora")
    add("decoder", seed=8, base_model="tiny/decoder")
    before = state(place)
    with pytest.raises(IncompatibleError, match="dora@1: DoRA"):
        bank.merge("average", {"sql": 1.0, "dora": 1.0}, name="m")
    with pytest.raises(IncompatibleError, match=r"tiny/encoder.*tiny/decoder"):
        bank.merge("average", {"sql": 1.0, "decoder": 1.0}, name="m")
    with pytest.raises(IncompatibleError, match="ranks"):
        bank.merge("linear_factors", {"sql": 1.0, "math": 1.0}, name="m")
    for how in (
        {"method": "tie"}, {"weights": {}}, {"options": {"densty": 0.1}}, {"options": {"density": 2.0}}, {"rank": 0},
        {"weights": {"sql": float("nan")}}, {"name": "a/b"}, {"weights": {"sql": 1.0, "sql@1": 1.0}}, {"dtype": "int8"},
    ):  # fmt: skip
        arguments = {"method": "ties", "weights": {"sql": 1.0, "math": 1.0}, "name": "m"} | how
        with pytest.raises(UsageError):
            bank.merge(arguments.pop("method"), arguments.pop("weights"), **arguments)
    with pytest.raises(NotFoundError):
        bank.merge("ties", {"sql": 1.0, "nobody": 1.0}, name="m")
    assert state(place) == before


def test_a_merge_that_was_registered_from_files_is_told_apart(bank, three, tmp_path):
    """The files of a merge under another name are a version without a recipe."""
    bank.merge("average", WEIGHTS, name="m")
    bank.export("m", tmp_path / "out")
    assert bank.register(tmp_path / "out", name="m").status == "unchanged"
    assert bank.register(tmp_path / "out", name="copy").version.method is None and bank.recipe("copy") is None
    with pytest.raises(ConflictError):
        bank.export("m", tmp_path / "out")


def test_a_merge_that_does_nothing_is_told(bank, three):
    merged = bank.merge("task_arithmetic", {"sql": 1.0}, name="idle", options={"scale": 0.0})
    assert [problem.code for problem in merged.warnings] == ["no_op"]


def test_opposite_weights_cancel_and_single_inputs_are_themselves(bank, three, tmp_path):
    bank.merge("task_arithmetic", {"sql": 1.0}, name="one", options={"scale": 1.0})
    bank.export("one", tmp_path / "one")
    assert dense.distance(dense.deltas(tmp_path / "one"), dense.deltas(three["sql@1"])) < 1e-6
    with pytest.raises(UsageError, match="sum to 0"):
        bank.merge("average", {"sql": 1.0, "math": -1.0}, name="none")


def test_a_merge_of_merges_names_its_own_inputs(bank, three):
    bank.merge("average", {"sql": 1.0, "math": 1.0}, name="pair")
    bank.merge("average", {"pair": 1.0, "law": 1.0}, name="all")
    assert bank.recipe("all").body["refs"] == ["pair@1", "law@1"]
    with pytest.raises(InUseError, match="version all@1"):
        bank.remove(["pair"])
    done = bank.remove(["pair", "all"])
    assert set(done.refs) == {"pair@1", "all@1"} and bank.verify().problems == ()
