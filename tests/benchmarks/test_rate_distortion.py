"""The laws of what compares: measures, the bound, curves, collections that are made, and the counting of bits."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from math import exp, log
from pathlib import Path

import pytest
import torch

from adapterbank.codecs.coder import encode
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta, delta_error
from adapterbank.vault.compressed import compress
from benchmarks.rate_distortion import synthetic, whole_bank
from benchmarks.rate_distortion.alone import measure as alone
from benchmarks.rate_distortion.alone import words
from benchmarks.rate_distortion.curves import Curve, against_all, bd_rate, best_rival, not_below
from benchmarks.rate_distortion.document import fill
from benchmarks.rate_distortion.families import Family
from benchmarks.rate_distortion.measure import error
from benchmarks.rate_distortion.packing import packed, unpacked
from benchmarks.rate_distortion.points import ALONE, TOGETHER, Point
from benchmarks.rate_distortion.shannon import Spectrum, bits_at, bits_at_one_slope
from benchmarks.rate_distortion.together import measure as together
from benchmarks.rate_distortion.versions import bits_given, least_bits
from tests.benchmarks.synthetic import adapter

CONFIG = (
    b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["a", "b"], "base_model_name_or_path": "tiny/one", '
    b'"bias": "none", "task_type": "FEATURE_EXTRACTION"}'
)


def family(count: int = 3) -> Family:
    adapters = {f"n{i}": adapter(i) for i in range(count)}
    return Family("tiny", "tiny ones", adapters, dict.fromkeys(adapters, CONFIG))


class Here:
    """An executor that computes at once."""

    def submit(self, function, *arguments):
        value = function(*arguments)
        return type("Done", (), {"result": staticmethod(lambda: value)})()


def silent(_: str) -> None: ...


def point(method: str, bits: float, error: float) -> Point:
    return Point("tiny", method, f"{bits:g}", bits, error, error)


def test_errors_are_those_of_dense_matrices_also_on_inputs() -> None:
    first, second = adapter(1), adapter(2)
    draw = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(7, f.d_in, generator=draw) for name, f in first.modules.items()}
    assert error(first, second) == pytest.approx(delta_error(first, second).total, rel=1e-9)
    lost = norm = 0.0
    for name, X in inputs.items():
        W, V = delta(first.modules[name]), delta(second.modules[name])
        lost += float(((W - V) @ X.double().T).square().sum())
        norm += float((W @ X.double().T).square().sum())
    assert error(first, second, inputs) == pytest.approx((lost / norm) ** 0.5, rel=1e-9)
    assert error(first, Adapter({})) == 1.0


def test_the_bound_is_that_of_a_single_component_in_closed_form() -> None:
    """One component with equal sides: error² = 1 − (1 − a)², bits = −d·log₂ a over 2·d parameters."""
    one = Adapter({"a": Factors(torch.ones(1, 50), torch.ones(50, 1))})
    for a in (0.02, 0.1, 0.25):
        wanted = (1.0 - (1.0 - a) ** 2) ** 0.5
        assert bits_at([Spectrum.of(one)], wanted) == pytest.approx(-0.5 * log(a) / log(2.0), rel=1e-6)


def test_no_way_to_share_bits_between_components_beats_the_bound() -> None:
    spectrum = Spectrum.of(adapter(0))
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        a, b = torch.rand(2, len(spectrum.energy), generator=draw, dtype=torch.float64) ** 2
        kept = torch.rand(len(a), generator=draw) < 0.7
        a, b = torch.where(kept, a, 1.0), torch.where(kept, b, 1.0)
        lost = (spectrum.energy * (1.0 - (1.0 - a) * (1.0 - b))).sum() / spectrum.energy.sum()
        bits = float(-0.5 * (spectrum.d_out * a.log2() + spectrum.d_in * b.log2()).sum()) / spectrum.parameters
        assert bits >= bits_at([spectrum], float(lost) ** 0.5) - 1e-9


def test_the_coder_is_above_the_bound_and_one_slope_is_no_dearer_than_the_mean_of_each() -> None:
    spectra = [Spectrum.of(adapter(i)) for i in range(2)]
    for wanted in (0.7, 0.3, 0.1):
        coded = encode(adapter(0), Target(max_error=wanted), effort=0)
        assert 8 * len(coded.data) / adapter(0).parameters > bits_at(spectra[:1], coded.error.total)
    assert bits_at_one_slope(spectra[:1], 0.3) == pytest.approx(bits_at(spectra[:1], 0.3), rel=1e-9)


def test_bd_rate_of_half_the_bits_is_minus_a_half() -> None:
    errors = [0.1, 0.2, 0.4, 0.8]
    rival = Curve.of(point("rival", 2.0 * exp(-e), e) for e in errors)
    half = Curve.of(point(ALONE, exp(-e), e) for e in errors)
    assert bd_rate(half, rival) == pytest.approx(-0.5)
    assert bd_rate(rival, half) == pytest.approx(1.0)
    assert bd_rate(half, Curve.of([point("rival", 1.0, 0.01), point("rival", 2.0, 0.005)])) is None


def test_a_curve_drops_what_another_point_beats_and_reads_between() -> None:
    curve = Curve.of([point("m", 1.0, 0.4), point("m", 2.0, 0.5), point("m", 4.0, 0.1), point("m", 0.5, 1.2)])
    assert curve.errors == (0.1, 0.4)
    assert curve.at(0.2) == pytest.approx(2.0)
    assert curve.at(0.9) == 1.0, "less error than asked for is as good"
    assert curve.at(0.05) is None, "more than was measured is not known"


def test_rivals_that_are_not_above_are_listed() -> None:
    mine = [point(ALONE, 1.0, 0.4), point(ALONE, 4.0, 0.1), point(TOGETHER, 0.5, 0.5)]
    above, level, below = point("x", 1.1, 0.4), point("y", 1.0, 0.4), point("z", 0.4, 0.55)
    tiny, useless, beyond = point("x", 0.1, 0.01), point("x", 0.1, 1.3), point("x", 5.0, 0.05)
    found = not_below([*mine, above, level, below, tiny, useless, beyond])
    assert [(one.rival.bits, one.ours) for one in found] == [(1.0, 1.0), (0.4, 0.5), (5.0, None)]


def test_the_best_rival_is_the_one_that_is_saved_least_against() -> None:
    rates = against_all([
        *(point(ALONE, 1.0 / e, e) for e in (0.1, 0.5)),
        *(point("near", 1.5 / e, e) for e in (0.1, 0.5)),
        *(point("far", 4.0 / e, e) for e in (0.1, 0.5)),
    ])  # fmt: skip
    assert best_rival(rates) == ("near", pytest.approx(1 / 1.5 - 1))
    assert rates["any"] == pytest.approx(rates["near"])


def test_copies_are_other_factors_of_one_delta() -> None:
    made = synthetic.copies(family())
    first, *others = made.adapters.values()
    for other in others:
        assert delta_error(first, other).total < 1e-5
        assert all(not torch.allclose(first.modules[n].A, other.modules[n].A, rtol=0.01) for n in first.modules)


@pytest.mark.parametrize("kind", ["random", "toward"])
def test_every_version_of_a_chain_is_a_step_of_its_size(kind: str) -> None:
    made = synthetic.chain(family(), 0.2, kind)
    versions = list(made.adapters.values())
    for before, after in pairwise(versions):
        assert delta_error(before, after).total == pytest.approx(0.2, rel=1e-3)
    assert made.parents == {"v2": "v1", "v3": "v2"}


def singular(of: Adapter, name: str) -> torch.Tensor:
    return torch.linalg.svdvals(delta(of.modules[name]))[:4]


def test_a_version_needs_nothing_if_unchanged_and_less_than_it_takes_else() -> None:
    """Against the coder's own objects, and against the bound without a reference."""
    chained = synthetic.chain(family(2), 0.2, "random", length=2)
    before, version = chained.adapters.values()
    assert bits_given(before, before, 0.11) < 0.01 * before.parameters
    known = encode(before, Target(max_error=0.1))
    coded = encode(version, Target(max_error=0.1), references={sha256(known.data).hexdigest(): known.data})
    least = least_bits(chained, 0.1)
    assert 0.0 < least < 8 * len(coded.data)
    assert least < bits_at([Spectrum.of(version)], 0.1) * version.parameters


def test_the_null_keeps_spectra_and_shares_nothing_and_planted_rows_are_shared() -> None:
    source = family()
    for made in (synthetic.null(source, 3), synthetic.planted(source, 3)):
        for real, drawn in zip(source.adapters.values(), made.adapters.values(), strict=True):
            for name in real.modules:
                assert torch.allclose(singular(real, name), singular(drawn, name), rtol=1e-4)
    inside = []
    for made in (synthetic.null(source, 2), synthetic.planted(source, 2)):
        first, second = (torch.linalg.qr(one.modules["b"].A.double().T).Q for one in made.adapters.values())
        inside.append(float((first.T @ second).square().sum()) / 4)
    assert inside[0] < 0.3
    assert inside[1] > 0.5


def test_adapters_travel_between_processes_unchanged() -> None:
    for name, factors in unpacked(packed(adapter(0))).modules.items():
        original = adapter(0).modules[name]
        assert torch.equal(factors.A, original.A)
        assert torch.equal(factors.B, original.B)
        assert factors.scaling == original.scaling


def test_bits_count_objects_each_configuration_once_and_module_errors() -> None:
    given, target = family(), Target(max_error=0.3)
    (made,) = alone(given, [target], 0, Here(), None, silent)  # type: ignore[arg-type]
    objects = [len(encode(one, target, effort=0).data) for one in given.adapters.values()]
    assert made.point.bits * given.parameters == pytest.approx(8 * (sum(objects) + len(compress(CONFIG) or CONFIG) + 4 * 2 * 3))
    assert made.point.sizes == tuple(objects)
    assert made.point.error_mean <= made.point.error_worst <= 0.3 + 1e-6


def test_a_collection_is_read_back_from_the_bank_and_counts_what_it_stores() -> None:
    given = synthetic.null(family())
    (made,) = together(given, [Target(max_error=0.3)], 0, Here(), None, silent)  # type: ignore[arg-type]
    assert made.point.error_worst <= 0.3 + 1e-6
    beside = given.config_bytes + 4 * 2 * len(given.adapters)
    assert made.point.bits * given.parameters / 8 == pytest.approx(sum(made.point.sizes) + beside), (
        "it has no object of its own"
    )


def test_a_bank_is_weighed_from_its_files(tmp_path: Path) -> None:
    few, more = (whole_bank.measure(family(1), count, silent, tmp_path) for count in (2, 12))
    assert (few.adapters, more.adapters) == (2, 12)
    assert more.counted < 6 * few.counted, "their configuration is one object"
    assert more.on_disk > more.counted > 0, "rows take bytes that are not counted"
    assert list(tmp_path.iterdir()) == []


def test_tables_go_between_their_marks_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("one\n<!-- t -->\nold\n<!-- end t -->\ntwo\n", encoding="utf-8")
    assert fill(path, {"t": "| new |", "nowhere": "x"}) == ["nowhere"]
    assert path.read_text(encoding="utf-8") == "one\n<!-- t -->\n| new |\n<!-- end t -->\ntwo\n"


def test_targets_in_words() -> None:
    assert [words(t) for t in (Target(max_error=0.5), Target(bits=0.2036), Target(step=1.0))] == [
        "error 0.5", "0.204 bits", "step 1",
    ]  # fmt: skip
