"""RegMean, RegMean++ and Fisher: against slow references, by hand, and by the identities that they are known for."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.least_squares import packed, unpacked
from tests.merge import references_statistics as references
from tests.merge.artefacts import ARTEFACTS, fisher_of, gram_of
from tests.merge.factories import DIMS, adapter, deltas, digests, distance, run

UNLIKE = [
    adapter(1, 3, scaling=2.0),
    adapter(2, 4, scaling=0.5, ranks={"blocks.0.up": 2}),
    adapter(3, 2, scaling=1.5, skip=["blocks.0.q"]),
    adapter(4, 5, scaling=1.0, skip=["blocks.1.down"]),
]
WEIGHTS = [1.0, 0.5, -0.7, 1.3]
REGMEAN = [{}, {"reduce_non_diagonal_ratio": 0.1}, {"reduce_non_diagonal_ratio": 1.0, "ridge": 0.3}]
OPTIONS = {
    "regmean": REGMEAN,
    "regmean_plus_plus": REGMEAN,
    "fisher": [{}, {"normalize_fisher_weight": False}, {"minimal_fisher_weight": 0.5}],
}
CASES = [(name, options) for name in references.ON_DELTAS for options in OPTIONS[name]]
EXACT = {"reduce_non_diagonal_ratio": 1.0, "ridge": 0.0}


def stacked(adapters):
    each = [deltas(value) for value in adapters]
    return {m: [d.get(m, np.zeros(DIMS[m])) for d in each] for m in DIMS}


def statistics(kind, tensors, **settings):
    """``tensors[module]``, one per adapter, as conditions of a merge."""
    count = len(next(iter(tensors.values())))
    artefacts = [
        Statistics(kind, name, {m: torch.as_tensor(own[i]) for m, own in tensors.items()}, {m: m for m in tensors})
        for i, name in enumerate(digests(count))
    ]
    return Conditions(artefacts=tuple(artefacts), **settings)


def of_matrix(rows):
    matrix = torch.tensor(rows, dtype=torch.float64)
    return Adapter({"m": Factors(A=torch.eye(matrix.shape[1], dtype=torch.float64), B=matrix)})


def one_module(method, matrices, own, weights=None, kind="gram", **settings):
    """The merge of 2-D lists, with their statistics, as a matrix."""
    merged = run(method, [of_matrix(rows) for rows in matrices], weights, conditions=statistics(kind, {"m": own}), **settings)
    return deltas(merged.adapter)["m"], merged


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equals_its_dense_reference(name, options):
    expected = references.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 11, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, rank=9)
    assert merged.residual < 1e-7
    assert distance(deltas(merged.adapter), expected) < (1e-7 if name == "fisher" else 1e-10)


@pytest.mark.parametrize("name", ["regmean", "fisher"])
@pytest.mark.parametrize("rank", [None, 2])
def test_the_plain_cut_is_that_of_an_svd(name, rank):
    options = {"whiten": False} if name == "regmean" else {}
    dense = references.ON_DELTAS[name](stacked(UNLIKE), WEIGHTS, digests(4), 0, **options)
    merged = run(name, UNLIKE, WEIGHTS, options=options, rank=rank)
    expected = {}
    for m, matrix in dense.items():
        U, S, Vh = np.linalg.svd(matrix)
        k = rank or max(a.modules[m].rank for a in UNLIKE if m in a.modules)
        expected[m] = (U[:, :k] * S[:k]) @ Vh[:k]
    assert distance(deltas(merged.adapter), expected) < 1e-7
    assert merged.residual == pytest.approx(distance(expected, dense), rel=1e-7)


BY_HAND = [
    (
        "fisher",
        "fisher",
        [[[0.0]], [[4.0]]],
        [[[1.0]], [[3.0]]],
        {"minimal_fisher_weight": 0.0, "normalize_fisher_weight": False},
        [[3.0]],
    ),
    (  # entry (0, 0): (1·8 + 3·0)/4; (0, 1): no Fisher, the mean; (1, 0): only the first; (1, 1): equal
        "fisher",
        "fisher",
        [[[8.0, 2.0], [5.0, 1.0]], [[0.0, 4.0], [7.0, 3.0]]],
        [[[1.0, 0.0], [2.0, 1.0]], [[3.0, 0.0], [0.0, 1.0]]],
        {"normalize_fisher_weight": False, "minimal_fisher_weight": 1e-12},
        [[2.0, 3.0], [5.0, 2.0]],
    ),
    (  # S = 4·I, so the merge is ΔW₁ G₁ / 4
        "regmean",
        "gram",
        [[[4.0, 0.0], [0.0, 8.0]], [[0.0, 0.0], [0.0, 0.0]]],
        [[[2.0, 1.0], [1.0, 2.0]], [[2.0, -1.0], [-1.0, 2.0]]],
        EXACT,
        [[2.0, 1.0], [2.0, 4.0]],
    ),
    (
        "regmean",
        "gram",
        [[[4.0, 0.0], [0.0, 8.0]], [[0.0, 0.0], [0.0, 0.0]]],
        [[[2.0, 1.0], [1.0, 2.0]], [[2.0, -1.0], [-1.0, 2.0]]],
        {"reduce_non_diagonal_ratio": 0.5, "ridge": 0.0},
        [[2.0, 0.5], [1.0, 4.0]],
    ),
]


@pytest.mark.parametrize(("name", "kind", "matrices", "own", "options", "expected"), BY_HAND)
def test_by_hand(name, kind, matrices, own, options, expected):
    got, _ = one_module(name, matrices, torch.tensor(own, dtype=torch.float64), kind=kind, options=options)
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_every_method_here_has_a_reference_options_and_artefacts():
    assert references.ON_DELTAS.keys() == OPTIONS.keys()
    assert references.ON_DELTAS.keys() <= ARTEFACTS.keys()
    assert {case[0] for case in BY_HAND} | {"regmean_plus_plus"} == set(OPTIONS)


# --- RegMean -----------------------------------------------------------------------------------------------------------------


def inputs_of(name, module):
    """Some X with XᵀX = G of the made-up artefacts."""
    return np.linalg.cholesky(gram_of(name, module, DIMS[module][1]).numpy()).T


def lost(value, adapters, weights=None):
    """``Σ_i w_i ‖X_i(Δ − ΔW_i)ᵀ‖²`` over all modules."""
    weights = weights or [1.0] * len(adapters)
    total = 0.0
    for m, stack in stacked(adapters).items():
        for w, name, delta in zip(weights, digests(len(adapters)), stack, strict=True):
            total += w * float(((inputs_of(name, m) @ (value[m] - delta).T) ** 2).sum())
    return total


def test_regmean_of_equal_gram_matrices_is_the_mean():
    same = {m: [gram_of("1", m, d_in)] * 4 for m, (_, d_in) in DIMS.items()}
    merged = run("regmean", UNLIKE, rank=9, conditions=statistics("gram", same))
    average = run("average", UNLIKE, rank=9)
    assert distance(deltas(merged.adapter), deltas(average.adapter)) < 1e-10


def test_regmean_reproduces_adapters_whose_inputs_are_disjoint():
    low, high = np.zeros((6, 6)), np.zeros((6, 6))
    X = np.random.default_rng(0).standard_normal((20, 6))
    low[:2, :2], high[2:, 2:] = X[:, :2].T @ X[:, :2], X[:, 2:].T @ X[:, 2:]
    first, second = np.random.default_rng(1).standard_normal((2, 5, 6))
    got, merged = one_module("regmean", [first.tolist(), second.tolist()], [low, high], options=EXACT)
    np.testing.assert_allclose(X[:, :2] @ got[:, :2].T, X[:, :2] @ first[:, :2].T, atol=1e-10)
    np.testing.assert_allclose(X[:, 2:] @ got[:, 2:].T, X[:, 2:] @ second[:, 2:].T, atol=1e-10)
    assert merged.report["regmean_loss"] < 1e-7 < merged.report["average_loss"]


def test_the_gradient_of_regmeans_loss_is_zero():
    """Σ_i w_i (Δ − ΔW_i) G_i = 0."""
    weights = [1.0, 0.5, 0.7, 1.3]
    merged = deltas(run("regmean", UNLIKE, weights, rank=9, options=EXACT).adapter)
    for m, stack in stacked(UNLIKE).items():
        terms = [
            w * (merged[m] - delta) @ gram_of(name, m, DIMS[m][1]).numpy()
            for w, delta, name in zip(weights, stack, digests(4), strict=True)
        ]
        assert np.abs(sum(terms)).max() < 1e-10 * max(np.abs(term).max() for term in terms)


def test_the_report_is_the_loss_of_the_uncut_merge_and_of_the_average():
    whole = lost({m: np.zeros(shape) for m, shape in DIMS.items()}, UNLIKE)
    uncut = run("regmean", UNLIKE, rank=9)
    average = deltas(run("average", UNLIKE, rank=9).adapter)
    assert uncut.report["regmean_loss"] == pytest.approx((lost(deltas(uncut.adapter), UNLIKE) / whole) ** 0.5)
    assert uncut.report["average_loss"] == pytest.approx((lost(average, UNLIKE) / whole) ** 0.5)
    assert uncut.report["regmean_loss"] < uncut.report["average_loss"]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_whitened_cut_is_the_best_of_its_rank_under_regmeans_loss(rank):
    whitened = deltas(run("regmean", UNLIKE, rank=rank, options=EXACT).adapter)
    plain = deltas(run("regmean", UNLIKE, rank=rank, options={**EXACT, "whiten": False}).adapter)
    average = deltas(run("average", UNLIKE, rank=rank).adapter)
    best = {}
    for m, matrix in deltas(run("regmean", UNLIKE, rank=9, options=EXACT).adapter).items():
        values, vectors = np.linalg.eigh(sum(gram_of(name, m, DIMS[m][1]).numpy() for name in digests(4)))
        root, inverse = (vectors * values**0.5) @ vectors.T, (vectors * values**-0.5) @ vectors.T
        U, S, Vh = np.linalg.svd(matrix @ root)
        best[m] = (U[:, :rank] * S[:rank]) @ Vh[:rank] @ inverse
    assert distance(whitened, best) < 1e-8
    assert lost(whitened, UNLIKE) < lost(plain, UNLIKE)
    assert lost(whitened, UNLIKE) < lost(average, UNLIKE)


def test_a_whitened_cut_says_how_far_it_is_from_the_merge():
    full = deltas(run("regmean", UNLIKE, rank=9).adapter)
    cut = run("regmean", UNLIKE, rank=2)
    assert cut.residual == pytest.approx(distance(deltas(cut.adapter), full), rel=1e-6)
    assert cut.residual > run("regmean", UNLIKE, rank=2, options={"whiten": False}).residual


def test_directions_that_nobodys_inputs_have_get_the_mean():
    seen = np.diag([1.0, 2.0, 0.0])
    first, second = np.random.default_rng(1).standard_normal((2, 3, 3))
    got, _ = one_module("regmean", [first.tolist(), second.tolist()], [seen, 3 * seen])
    np.testing.assert_allclose(got[:, 2], (first + second)[:, 2] / 2, rtol=1e-9)
    np.testing.assert_allclose(got[:, 0], (first + 3 * second)[:, 0] / 4, rtol=1e-4)
    nothing, _ = one_module("regmean", [first.tolist(), second.tolist()], [0 * seen, 0 * seen])
    np.testing.assert_allclose(nothing, (first + second) / 2, rtol=1e-9)


def test_without_a_ridge_such_directions_are_refused():
    seen = np.diag([1.0, 2.0, 0.0])
    for own in (seen, seen.diagonal()):
        with pytest.raises(UsageError, match=r"'m'.*not positive definite"):
            one_module("regmean", [np.eye(3).tolist()], [own.copy()], options=EXACT)


@pytest.mark.parametrize("rank", [3, 1])
def test_a_diagonal_does_as_the_matrix_that_it_stands_for(rank):
    own = [np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 1.0])]
    first, second = np.random.default_rng(1).standard_normal((2, 3, 3))
    matrices = [first.tolist(), second.tolist()]
    short, first_run = one_module("regmean", matrices, own, rank=rank)
    full, second_run = one_module("regmean", matrices, [np.diag(each) for each in own], rank=rank)
    np.testing.assert_allclose(short, full, atol=1e-10)
    assert first_run.report == pytest.approx(second_run.report)


def test_a_matrix_does_as_its_upper_half():
    first, second = np.random.default_rng(1).standard_normal((2, 3, 3))
    own = [np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 3.0]]), np.eye(3)]
    halves = [np.array([2.0, 0.5, 0.1, 1.0, 0.3, 3.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])]
    matrices = [first.tolist(), second.tolist()]
    np.testing.assert_array_equal(one_module("regmean", matrices, own)[0], one_module("regmean", matrices, halves)[0])
    for G in own:
        torch.testing.assert_close(unpacked(packed(torch.tensor(G)), 3), torch.tensor(G), rtol=0, atol=0)


def test_a_negative_weight_asks_for_the_opposite():
    negated = [UNLIKE[0], *(Adapter({m: Factors(f.A, -f.B, f.scaling) for m, f in a.modules.items()}) for a in UNLIKE[1:])]
    for name in references.ON_DELTAS:
        options = {} if name == "fisher" else EXACT
        first = run(name, UNLIKE, [1.0, -0.5, -2.0, -1.0], options=options)
        second = run(name, negated, [1.0, 0.5, 2.0, 1.0], options=options)
        assert distance(deltas(first.adapter), deltas(second.adapter)) < 1e-9


# --- Fisher ------------------------------------------------------------------------------------------------------------------


def scaled_fishers(scales):
    tensors = {m: [c * fisher_of(name, m, *s) for c, name in zip(scales, digests(4), strict=True)] for m, s in DIMS.items()}
    return statistics("fisher", tensors)


def test_equal_fisher_is_the_mean_and_none_at_all_too():
    for own in (fisher_of("1", "m", 12, 9), torch.zeros(12, 9)):
        same = statistics("fisher", {m: [own[:1, :1].expand(shape)] * 4 for m, shape in DIMS.items()})
        for minimal in (1e-6, 0.0):
            merged = run("fisher", UNLIKE, rank=9, conditions=same, options={"minimal_fisher_weight": minimal})
            assert distance(deltas(merged.adapter), deltas(run("average", UNLIKE, rank=9).adapter)) < 1e-7


def test_an_adapter_with_far_more_fisher_wins():
    merged = run(
        "fisher", UNLIKE, rank=9, conditions=scaled_fishers([1.0, 1e12, 1.0, 1.0]), options={"normalize_fisher_weight": False}
    )
    assert distance(deltas(merged.adapter), {m: stack[1] for m, stack in stacked(UNLIKE).items()}) < 1e-2


@pytest.mark.parametrize("normalize", [False, True])
def test_units_of_the_fisher_do_not_matter(normalize):
    """All by the same factor never; each by its own if they are normalised."""
    options = {"normalize_fisher_weight": normalize, "minimal_fisher_weight": 0.1}
    first = deltas(run("fisher", UNLIKE, conditions=scaled_fishers([1.0] * 4), options=options).adapter)
    for scales, holds in [([1e-9] * 4, True), ([1e-3, 1.0, 10.0, 1e4], normalize)]:
        second = deltas(run("fisher", UNLIKE, conditions=scaled_fishers(scales), options=options).adapter)
        assert (distance(second, first) < 1e-7) == holds


def test_fisher_wins_its_own_quadratic():
    merged = run("fisher", UNLIKE, rank=9)
    assert 0.1 < merged.report["fisher_loss"] < merged.report["average_loss"]


# --- what is needed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(references.ON_DELTAS))
def test_missing_statistics_are_named_with_the_command_that_makes_them(name):
    kind = {"regmean": "gram", "regmean_plus_plus": "gram_merged", "fisher": "fisher"}[name]
    made = ARTEFACTS[name](digests(2), DIMS, {})
    with pytest.raises(UsageError) as caught:
        run(name, UNLIKE[:2], conditions=Conditions(artefacts=tuple(made[:1])))
    assert caught.value.message == f"{name} needs the {kind} of every adapter: got none for adapter {digests(2)[1][:12]}"
    assert caught.value.hint == f"adapterbank calibrate {kind} REF --with FILE.py:FUNCTION"


def test_a_module_without_statistics_is_named_unless_its_adapter_is_left_out_there():
    tensors = {m: [gram_of(name, m, d_in) for name in digests(4)] for m, (_, d_in) in DIMS.items()}
    conditions = statistics("gram", tensors)
    third = conditions.artefacts[2]
    bare = Statistics("gram", third.adapter, third.tensors, {m: m for m in third.modules if m != "blocks.0.q"})
    artefacts = (*conditions.artefacts[:2], bare, conditions.artefacts[3])
    with pytest.raises(UsageError, match=r"nothing for module 'blocks\.0\.q'"):
        run("regmean", UNLIKE, conditions=Conditions(artefacts=artefacts))
    merged = run("regmean", UNLIKE, conditions=Conditions(artefacts=artefacts, absent="renormalize"))
    assert merged.adapter.modules.keys() == DIMS.keys()


def test_statistics_of_another_shape_are_refused():
    with pytest.raises(IncompatibleError, match=r"\[2, 2\], expected \[6\] or \[3\] or \[3, 3\]"):
        one_module("regmean", [np.eye(3).tolist()], [np.eye(2)])
    with pytest.raises(IncompatibleError, match=r"\[3, 2\], expected \[3, 3\]"):
        one_module("fisher", [np.eye(3).tolist()], [np.ones((3, 2))], kind="fisher")


@pytest.mark.parametrize("name", list(references.ON_DELTAS))
def test_weights_that_are_all_zero_are_refused(name):
    with pytest.raises(UsageError, match="all 0"):
        run(name, UNLIKE[:2], [0.0, 0.0])


@pytest.mark.parametrize("name", list(references.ON_DELTAS))
def test_a_module_that_only_an_adapter_without_weight_has_stays_zero(name):
    only = [adapter(1, skip=["blocks.0.q"]), adapter(2)]
    merged = run(name, only, [1.0, 0.0], conditions=Conditions(absent="renormalize"))
    assert not deltas(merged.adapter)["blocks.0.q"].any()
    assert deltas(merged.adapter)["blocks.0.up"].any()


SEEDED = """
import hashlib, torch
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import merge
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.conditions import Conditions
draw = torch.Generator().manual_seed(0)
names = [f"{n:064x}" for n in (1, 2)]
modules = [f"block.{m}" for m in range(40)]
value = lambda *shape: torch.randn(*shape, generator=draw)
adapters = [Adapter({m: Factors(A=value(2, 5), B=value(6, 2)) for m in modules}) for _ in names]
tables = [{m: value(6, 5).square() * 10 ** value(1) for m in modules} for _ in names]
made = [Statistics("fisher", name, table, {m: m for m in modules}) for name, table in zip(names, tables)]
done = merge("fisher", adapters, [1.0, 1.0], names=names, dtype=torch.float64, conditions=Conditions(artefacts=tuple(made)))
bits = b"".join(f.A.numpy().tobytes() + f.B.numpy().tobytes() for f in done.adapter.modules.values())
print(hashlib.sha256(bits).hexdigest())
"""


def test_fisher_has_the_same_bits_whatever_python_hashes_names_to():
    found = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run([sys.executable, "-c", SEEDED], capture_output=True, text=True, env=environment, check=True)
        found.add(ran.stdout)
    assert len(found) == 1
