"""The laws of the rivals, against slow and obvious references: what they store is counted, what they lose is what they must."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from adapterbank.lora.delta import delta, delta_error
from benchmarks.baselines import published
from benchmarks.baselines import vlora as real_vlora
from benchmarks.baselines.collection import Collection, Form
from benchmarks.baselines.compeft import compeft, position_bits
from benchmarks.baselines.joint import joint_diagonal, joint_full
from benchmarks.baselines.loraquant import loraquant
from benchmarks.baselines.reversible import reversible
from benchmarks.baselines.rounding import NF4, integers, joined, nf4, split
from benchmarks.baselines.rtvq import rtvq
from benchmarks.baselines.table import rivals
from benchmarks.baselines.truncated import truncated
from tests.benchmarks.synthetic import SHAPES, adapter, collection

ROWS = sum(d_out + d_in for d_out, d_in in SHAPES.values())


def errors(given: Collection, form: Form) -> list[float]:
    return [delta_error(a, b).total for a, b in zip(given.given, form.adapters, strict=True)]


def mean_error(given: Collection, form: Form) -> float:
    return sum(errors(given, form)) / len(given.given)


def test_both_gauges_of_a_collection_are_the_adapters() -> None:
    given = collection()
    for balanced, plain, seed in zip(given.balanced, given.given, range(3), strict=True):
        assert delta_error(adapter(seed), plain).total < 1e-12
        assert delta_error(adapter(seed), balanced).total < 1e-9


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_truncated_svd_loses_what_eckart_and_young_say(rank: int) -> None:
    given = collection()
    form = truncated(given, rank)
    for found, factors in zip(errors(given, form), given.given, strict=True):
        values = [torch.linalg.svdvals(delta(one)) for one in factors.modules.values()]
        tail = sum(float(s[rank:].square().sum()) for s in values) / sum(float(s.square().sum()) for s in values)
        assert found == pytest.approx(tail**0.5, abs=2e-3)
    assert form.bits == 16 * 3 * ROWS * rank


@pytest.mark.parametrize("gauge", ["given", "svd"])
def test_rmm_stores_means_components_and_coefficients(gauge: str) -> None:
    given = collection()
    mean, one, two = (reversible(given, p, gauge) for p in range(3))
    assert [form.bits for form in (mean, one, two)] == [16 * ROWS * (4 + p * 4 + 3 * p) for p in range(3)]
    assert mean_error(given, mean) > mean_error(given, one) > mean_error(given, two)
    assert mean_error(given, two) < 2e-3, "with n − 1 components it is exact up to float16"


@pytest.mark.parametrize(("scheme", "constants"), [("absmax", 1), ("search", 1), ("minmax", 2)])
def test_integers_in_groups_count_their_scales(scheme: str, constants: int) -> None:
    given = collection()
    groups = sum(-(-4 * d // 64) for shape in SHAPES.values() for d in shape)
    for bits in (2, 3, 4, 8):
        form = integers(given, bits, scheme=scheme)
        assert form.bits == bits * given.parameters + constants * 16 * 3 * groups
        first, *_ = split(form.adapters[0].modules["a"].A, 64)
        assert len(first.unique()) <= 2**bits


def test_more_bits_lose_less_and_a_searched_range_never_loses_more() -> None:
    given = collection()
    for per in ("group", "component"):
        found = [mean_error(given, integers(given, bits, scheme="search", per=per)) for bits in (2, 3, 4, 8)]
        assert found == sorted(found, reverse=True)
    for bits in (2, 3):
        plain, searched = (integers(given, bits, scheme=scheme).adapters[0].modules["a"].A for scheme in ("absmax", "search"))
        original = given.given[0].modules["a"].A
        assert (searched - original).norm() <= (plain - original).norm()


def test_every_normal_float_is_of_the_codebook_and_the_nearest() -> None:
    given = collection()
    original, found = given.given[0].modules["a"].A, nf4(given).adapters[0].modules["a"].A
    for values, coded in zip(split(original, 64), split(found, 64), strict=True):
        scale = float(values.abs().max().half().double())
        for value, back in zip(values.tolist(), coded.tolist(), strict=True):
            assert back == pytest.approx(min((c * scale for c in NF4), key=lambda c: abs(c - value)), abs=1e-9)


def test_splitting_and_joining_are_inverse() -> None:
    values = torch.randn(5, 13)
    assert torch.equal(joined(split(values, 64), values), values)
    assert split(values, 64).shape == (2, 64)


def test_jd_full_is_exact_on_the_whole_span_and_counts_its_three_parts() -> None:
    given = collection()
    form = joint_full(given, 12)
    assert mean_error(given, form) < 2e-3
    assert form.bits == 16 * (12 * ROWS + 3 * len(SHAPES) * 12 * 12)


def test_jd_full_loses_less_than_any_projection_on_random_spaces() -> None:
    given = collection()
    found = sum(error**2 for error in errors(given, joint_full(given, 3)))
    draw = torch.Generator().manual_seed(1)
    for _ in range(5):
        total = 0.0
        for one in given.given:
            lost = norm = 0.0
            for factors in one.modules.values():
                W = delta(factors)
                U, V = (torch.linalg.qr(torch.randn(d, 3, generator=draw, dtype=W.dtype)).Q for d in W.shape)
                lost += float((W - U @ (U.T @ W @ V) @ V.T).square().sum())
                norm += float(W.square().sum())
            total += lost / norm
        assert found < total


def test_jd_diag_finds_a_planted_common_diagonal_form() -> None:
    draw = torch.Generator().manual_seed(3)
    U, V = torch.randn(24, 4, generator=draw), torch.randn(20, 4, generator=draw)
    planted = collection()
    for one in planted.given:
        values = torch.randn(4, generator=draw)
        object.__setattr__(one.modules["a"], "A", (V * values).T.double())
        object.__setattr__(one.modules["a"], "B", U.double())
    form = joint_diagonal(planted, 4)
    found = [delta_error(a, b).modules["a"] for a, b in zip(planted.given, form.adapters, strict=True)]
    assert max(found) < 2e-2
    assert form.bits == 16 * (4 * ROWS + 3 * len(SHAPES) * 4)


def test_loraquant_counts_signs_bits_and_scales() -> None:
    given = collection()
    all_leading, one_leading = loraquant(given, 1.0, 3), loraquant(given, 0.01, 3)
    scales = 16 * 3 * 4 * sum(-(-d // 128) for shape in SHAPES.values() for d in shape)
    assert all_leading.bits == scales + 3 * given.parameters
    assert one_leading.bits == scales + 3 * ROWS * (3 + 3)
    assert mean_error(given, all_leading) < mean_error(given, one_leading) < 1.0


def rice_length(kept: torch.Tensor, parameter: int) -> int:
    """The length of the code word by word: unary quotient with its stop bit, then ``parameter`` low bits."""
    length, gap = 0, 0
    for flag in kept.flatten().tolist():
        if flag:
            length, gap = length + (gap >> parameter) + 1 + parameter, 0
        else:
            gap += 1
    return length


def test_positions_cost_what_a_rice_code_costs() -> None:
    draw = torch.Generator().manual_seed(0)
    for density in (0.01, 0.05, 0.2, 0.5):
        kept = torch.rand(4000, generator=draw) < density
        found = position_bits(kept)
        assert found in {rice_length(kept, parameter) for parameter in range(12)} | {4000}
        assert found <= 1.08 * min(*(rice_length(kept, parameter) for parameter in range(12)), 4000)
    assert position_bits(torch.zeros(9, dtype=torch.bool)) == 0.0


def test_compeft_scales_its_signs_to_least_error() -> None:
    given = collection()
    form = compeft(given, 0.2)
    for original, found in zip(given.given, form.adapters, strict=True):
        for name, factors in found.modules.items():
            assert factors.A.unique().tolist() == [-1.0, 0.0, 1.0]
            W, V = delta(original.modules[name]), delta(factors)
            assert all((W - V).norm() <= (W - c * V).norm() for c in (0.99, 1.01))


def test_rtvq_codes_the_offset_from_the_mean_as_it_is_stored() -> None:
    given = collection()
    coarse, fine = rtvq(given, 1, 8), rtvq(given, 8, 8)
    assert max(errors(given, coarse)) < 0.02, "what the mean's rounding loses is in the offsets"
    assert rtvq(given, 3, 2).bits == 3 * given.parameters / 3 + 2 * given.parameters + 32 * 4 * (1 + 3)
    assert rtvq(given, 0, 4).bits == 4 * given.parameters + 32 * 4 * 3
    assert mean_error(given, fine) < 0.02


class FakeSpace:
    """A shared space of the package's shape that keeps every adapter whole: as many components as adapters."""

    def __init__(self, weights: list, names: list[str]) -> None:
        self.weights = dict(zip(names, weights, strict=True))
        layers = weights[0].layer_names
        self.components_a = {layer: torch.full((2, 3), 1 / 3) for layer in layers}
        self.components_b = {layer: torch.full((2, 3), 1 / 3) for layer in layers}
        self.means_a = {layer: torch.full((3,), 1 / 3) for layer in layers}
        self.means_b = {layer: torch.full((3,), 1 / 3) for layer in layers}
        task = lambda: SimpleNamespace(loadings_a={la: torch.ones(2) for la in layers}, loadings_b={})  # noqa: E731
        self.tasks = {name: task() for name in names}

    def reconstruct(self, name: str) -> object:
        assert torch.equal(self.means_a["a"], self.means_a["a"].half().float()), "stored as float16 before it is used"
        return self.weights[name]


def test_vlora_counts_what_the_package_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("vlora")
    package.LoRAWeights = lambda **fields: SimpleNamespace(**fields)  # type: ignore[attr-defined]
    space = SimpleNamespace(from_adapters=lambda weights, names, num_components: FakeSpace(weights, names))
    package.SharedSubspace = space  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlora", package)
    given = collection()
    form = real_vlora.vlora(given, 2)
    assert form.bits == 16 * len(SHAPES) * (2 * (6 + 3) + 3 * 2)
    assert max(errors(given, form)) < 1e-6


def test_a_package_that_is_missing_is_said_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_vlora, "installed", lambda: False)
    given = collection(rank=16, count=2)
    found = {one.known.method: one for one in published.reproduce(given)}
    assert "not installed" in found["vLoRA k=4"].text()
    assert found["vLoRA k=4"].holds
    assert "vLoRA" not in {rival.method for rival in rivals(8, 16)}


def test_a_figure_that_is_off_is_no_reproduction() -> None:
    (known, *_) = published.KNOWN
    assert published.Reproduced(known, known.error + 0.009, known.bits).holds
    assert not published.Reproduced(known, known.error + 0.011, known.bits).holds
    assert not published.Reproduced(known, known.error, 1.1 * known.bits).holds
    assert "NOT REPRODUCED" in published.Reproduced(known, 0.1, known.bits).text()


def test_every_rival_runs_on_a_small_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_vlora, "installed", lambda: False)
    given = collection()
    listed = rivals(3, 4)
    assert len({rival.name for rival in listed}) == len(listed)
    for rival in listed:
        form = rival.run(given)
        assert len(form.adapters) == 3
        assert form.bits > 0
        assert all(error == error for error in errors(given, form)), rival.name
