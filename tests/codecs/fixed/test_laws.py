"""What must hold for every adapter, size and error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from adapterbank.codecs import fixed
from adapterbank.codecs.fixed.closed_loop import code_module
from adapterbank.codecs.fixed.survey import survey
from adapterbank.codecs.target import Target
from adapterbank.errors import ErrorBoundError, NotFoundError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta, delta_error

from . import reference
from .made import adapter, factors, large


def bits(data: bytes, original: Adapter) -> float:
    return 8 * len(data) / original.parameters


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("wanted", [0.6, 0.3, 0.1, 0.03])
def test_the_error_wanted_is_met_and_used_up(wanted: float) -> None:
    original = large()
    coded = fixed.encode(original, Target(max_error=wanted))
    measured = delta_error(original, fixed.decode(coded.data))
    assert coded.error.total == pytest.approx(measured.total, rel=1e-9)
    assert coded.error.modules == pytest.approx(measured.modules, rel=1e-9)
    assert 0.97 * wanted <= coded.error.total <= wanted


@pytest.mark.parametrize("wanted", [1.0, 2.0, 4.0])
def test_the_size_wanted_is_met_and_used_up(wanted: float) -> None:
    original = large()
    assert 0.95 * wanted <= bits(fixed.encode(original, Target(bits=wanted)).data, original) <= wanted


def test_more_bits_have_less_error_and_less_error_has_more_bits() -> None:
    original = large()
    errors = [fixed.encode(original, Target(bits=b)).error.total for b in (0.5, 1.0, 2.0, 3.0, 5.0)]
    assert errors == sorted(errors, reverse=True)
    sizes = [len(fixed.encode(original, Target(max_error=e)).data) for e in (0.05, 0.1, 0.2, 0.4, 0.8)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_error_is_the_dense_one() -> None:
    original = adapter()
    coded = fixed.encode(original, Target(max_error=0.2))
    pairs = [(delta(f), delta(coded.adapter.modules[n])) for n, f in original.modules.items()]
    off, norm = (sum(float(x.square().sum()) for x in side) for side in ([a - b for a, b in pairs], [a for a, _ in pairs]))
    assert coded.error.total == pytest.approx((off / norm) ** 0.5, rel=1e-9)


def test_the_closed_loop_knows_its_own_error_and_lowers_it() -> None:
    module = factors(96, 128, 8, seed=3)
    found, widths = survey("m", module), torch.full((2, 8), 3, dtype=torch.uint8)
    once = [code_module(found, widths, sweeps) for sweeps in (0, 1, 3)]
    errors = [coded.squared_error for coded in once]
    assert errors[1] < 0.97 * errors[0]
    assert errors[2] <= errors[1]
    norm = float(delta(module).square().sum())
    for coded in once:
        values = [fixed.planes.values(codes.int(), widths, scales)
                  for codes, widths, scales in zip((coded.B, coded.A), coded.widths, coded.scales, strict=True)]  # fmt: skip
        dense = float((delta(module) - values[0].double().T @ values[1].double()).square().sum())
        assert coded.squared_error == pytest.approx(dense, abs=1e-6 * norm)


def test_the_bytes_are_what_the_format_says() -> None:
    coded = fixed.encode(adapter(), Target(max_error=0.15))
    form = fixed.read(bytearray(coded.data))
    for index, (name, A, B) in enumerate(reference.modules(coded.data)):
        assert np.array_equal(coded.adapter.modules[name].A.numpy(), A)
        assert np.array_equal(coded.adapter.modules[name].B.numpy(), B)
        assert np.array_equal(reference.by_places(form, 0, index), B)
        assert np.array_equal(reference.by_places(form, 1, index), A.T)
        assert form.shapes[index].name == name


def test_a_module_alone_is_that_of_the_whole_and_touches_no_other() -> None:
    coded = fixed.encode(adapter(), Target(max_error=0.15))
    for index, (name, whole) in enumerate(coded.adapter.modules.items()):
        form = fixed.read(bytearray(coded.data))
        at = form.places
        mine = torch.zeros(len(form.words), dtype=torch.bool)
        for side in (0, 1):
            begin = int(at.offsets[side, index])
            mine[begin : begin + -(-int(at.rows[side, index]) // 32) * int(at.pitches[side, index])] = True
        assert 0 < int(mine.sum()) < len(mine)
        form.words[~mine] = -1431655766
        assert torch.equal(form.module(name).A, whole.A)
        assert torch.equal(form.module(name).B, whole.B)
    with pytest.raises(NotFoundError):
        form.module("no.such.module")


def test_arrays_are_views_of_a_writable_buffer() -> None:
    buffer = bytearray(fixed.encode(adapter(), Target(bits=4.0)).data)
    form = fixed.read(buffer)
    before = int(form.words[0])
    position = bytes(buffer).index(form.words.numpy().tobytes())
    buffer[position] ^= 1
    assert int(form.words[0]) == before ^ 1


def test_factors_are_balanced_with_scaling_one() -> None:
    coded = fixed.encode(adapter(scaling=4.0), Target(max_error=0.2))
    for module in coded.adapter.modules.values():
        assert module.scaling == 1.0
        assert torch.allclose(module.B.norm(dim=0), module.A.norm(dim=1), rtol=2**-6)


def test_bytes_do_not_depend_on_the_number_of_threads(threads: None) -> None:
    found = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        found.append(fixed.encode(large(), Target(max_error=0.3)).data)
        assert torch.get_num_threads() == count
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("wanted", [0.5, 0.1])
def test_the_gauge_does_not_matter(wanted: float) -> None:
    original, turned = large(), {}
    for i, (name, module) in enumerate(original.modules.items()):
        generator = torch.Generator().manual_seed(i)
        left, right = (torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q for _ in range(2))
        G = left @ torch.diag(torch.logspace(0, 1, 8, dtype=torch.float64)) @ right
        turned[name] = Factors((torch.linalg.inv(G) @ module.A.double()).float(), (module.B.double() @ G).float())
    first, second = (fixed.encode(a, Target(max_error=wanted)) for a in (original, Adapter(turned)))
    assert len(second.data) == pytest.approx(len(first.data), rel=0.01)
    assert second.error.total == pytest.approx(first.error.total, rel=0.01)


def test_scaling_is_part_of_the_matrix() -> None:
    plain, scaled = (fixed.encode(adapter(scaling=s), Target(max_error=0.2)) for s in (1.0, 4.0))
    for name, module in plain.adapter.modules.items():
        assert torch.allclose(delta(scaled.adapter.modules[name]), 4.0 * delta(module), rtol=1e-6, atol=1e-9)


def test_the_components_named_are_kept_and_no_others() -> None:
    original, kept = large(), {"layers.0.dense": [0, 2], "layers.3.dense": [1]}
    coded = fixed.encode(original, Target(bits=1.5), components=kept)
    assert {name: f.rank for name, f in coded.adapter.modules.items() if f.rank} == {"layers.0.dense": 2, "layers.3.dense": 1}
    module = original.modules["layers.3.dense"]
    U, _, Vh = torch.linalg.svd(delta(module))
    found = coded.adapter.modules["layers.3.dense"]
    assert abs(float(found.B[:, 0].double() / found.B.norm() @ U[:, 1])) > 0.95
    assert abs(float(found.A[0].double() / found.A.norm() @ Vh[1])) > 0.95


@pytest.mark.parametrize("components", [{"none": [0]}, {"layers.0.dense": [8]}, {"layers.0.dense": [-1]}])
def test_components_that_are_not_there_are_refused(components: dict[str, list[int]]) -> None:
    with pytest.raises(UsageError):
        fixed.encode(large(), Target(bits=2.0), components=components)


def test_targets_out_of_reach_are_refused() -> None:
    with pytest.raises(UsageError):
        fixed.encode(adapter(), Target(step=0.1))
    with pytest.raises(ErrorBoundError, match="at the least"):
        fixed.encode(adapter(), Target(max_error=1e-4))
    with pytest.raises(ErrorBoundError, match="at the least"):
        fixed.encode(large(), Target(bits=0.001))
    with pytest.raises(ErrorBoundError):
        fixed.encode(large(), Target(max_error=0.1), components={"layers.0.dense": [0]})


def test_progress_goes_up_to_all() -> None:
    told: list[tuple[int, int]] = []
    fixed.encode(adapter(), Target(max_error=0.3), progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {told[-1][0]}
