"""Whole adapters through plans and buffers: ranks apart, absent modules, rounding, blocks, frozen bases."""

from __future__ import annotations

import math

import pytest
import torch

from adapterbank import container
from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error
from adapterbank.lora.layout import Layout
from adapterbank.rmm import basis as rmm_basis
from adapterbank.rmm.collection import fit_collection, project_adapter
from adapterbank.rmm.members import reconstruct_rows, stored_error
from adapterbank.rmm.objects import NO_DIGEST, Member, common_layout, member_plan
from tests.lora.make import MODULES, make_adapter, make_factors, regauged
from tests.rmm.build import Built, blank, build

GAUGES = ["given", "svd", "procrustes"]


def added(built: Built, adapter: Adapter) -> Member:
    components = {rank: len(parts) for rank, parts in built.basis.components.items()}
    plan = member_plan(built.basis.layout, Layout.of(adapter.shapes), components, p=built.basis.p, dtype=built.basis.dtype)
    data = blank(plan)
    project_adapter(adapter, built.basis, container.tensors(data, plan))
    return Member.from_object(*container.read(data), NO_DIGEST)


@pytest.mark.parametrize("gauge", GAUGES)
def test_enough_components_bring_every_member_back(gauge):
    adapters = [make_adapter(s, 4 + 4 * (s % 2), 1.0 + s, skip=["block.0.q"] if s == 5 else []) for s in range(6)]
    assert max(build(adapters, 9, gauge).errors()) < 1e-6


@pytest.mark.parametrize("gauge", GAUGES)
def test_ranks_do_not_mix(gauge):
    low, high = [make_adapter(s, 2) for s in range(4)], [make_adapter(s + 10, 6) for s in range(4)]
    together, apart = build(low + high, 1, gauge), [build(low, 1, gauge), build(high, 1, gauge)]
    assert together.errors() == pytest.approx(apart[0].errors() + apart[1].errors(), rel=1e-9)
    tensors = [sum(t.numel() for part in (b.basis.mean, b.basis.components) for t in part.values()) for b in (together, *apart)]
    assert tensors[0] == tensors[1] + tensors[2]


def test_ranks_8_and_256_cost_the_sum_of_each_apart():
    sizes = {"m": (300, 280)}
    low, high = (
        [make_adapter(s, 8, modules=sizes) for s in range(3)],
        [make_adapter(s + 10, 256, modules=sizes) for s in range(3)],
    )
    assert build(low + high, 2).bytes <= 1.05 * (build(low, 2).bytes + build(high, 2).bytes)


@pytest.mark.parametrize("gauge", GAUGES)
def test_an_absent_module_enters_no_mean_and_comes_back_as_exact_zeros(gauge):
    without = make_adapter(9, skip=["block.0.v"])
    others = [make_adapter(s) for s in range(3)]
    built, alone = build([*others, without], 1, gauge), build(others, 1, gauge)
    assert built.members[3].absent == ("block.0.v",) and built.members[0].absent == ()
    block = built.basis.layout.classes[0]
    place = next(shape for shape in block.modules if shape.name == "block.0.v")
    rows, own = block.rows_of(place), alone.basis.layout.classes[0].rows_of(place)
    torch.testing.assert_close(built.basis.mean[4][rows], alone.basis.mean[4][own])
    back = reconstruct_rows(built.basis, built.members[3])[4]
    assert back[rows].count_nonzero() == 0 and back.count_nonzero() > 0
    assert "block.0.v" not in built.back()[3].modules


def test_whole_row_blocks_hold_the_same_rows_as_the_adapter():
    adapters = [make_adapter(s, skip=["block.0.v"] if s == 0 else []) for s in range(4)]
    built = build(adapters, 2)
    for member, adapter in zip(built.members, built.back(), strict=True):
        block = reconstruct_rows(built.basis, member)[4]
        for shape in member.layout:
            rows = block[built.basis.layout[4].rows_of(shape)]
            f = adapter.modules[shape.name]
            assert torch.equal(rows, torch.cat([f.B, f.A.T]))


def test_a_module_few_members_hold_has_zero_components_beyond():
    adapters = [make_adapter(s, 6, skip=["block.0.q"] if s > 1 else []) for s in range(6)]
    built = build(adapters, 3)
    block = built.basis.layout.classes[0]
    rows = block.rows_of(next(shape for shape in block.modules if shape.name == "block.0.q"))
    assert built.basis.components[6].shape[0] == 3
    assert built.basis.components[6][0, rows].count_nonzero() > 0 and built.basis.components[6][1:, rows].count_nonzero() == 0


def test_one_member_is_its_own_mean():
    built = build([make_adapter(1, 4, 2.0)], 3)
    assert built.basis.components[4].shape[0] == 0
    assert built.errors()[0] < 1e-6


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-7), ("float16", 2e-3), ("bfloat16", 1.5e-2)])
def test_storing_fewer_bits_adds_little_error(gauge, dtype, bound):
    adapters = [make_adapter(s, 6, 2.0) for s in range(8)]
    exact, stored = build(adapters, 2, gauge), build(adapters, 2, gauge, dtype)
    assert {t.dtype for t in stored.basis.mean.values()} == {getattr(torch, dtype)}
    for a, b in zip(exact.errors(), stored.errors(), strict=True):
        assert abs(a - b) <= bound


def test_errors_are_measured_against_the_dense_originals():
    built = build([make_adapter(s, 6, 2.0) for s in range(5)], 2)
    for adapter, back, member in zip(built.adapters, built.back(), built.members, strict=True):
        found, wanted = stored_error(adapter, built.basis, member), delta_error(adapter, back)
        assert found.total == pytest.approx(wanted.total, rel=1e-5) and found.modules == pytest.approx(wanted.modules, rel=1e-5)


def test_an_error_needs_the_member_of_this_original():
    built = build([make_adapter(s, skip=["block.0.q"] if s == 0 else []) for s in range(4)], 1)
    with pytest.raises(IncompatibleError, match="other modules"):
        stored_error(built.adapters[1], built.basis, built.members[0])


@pytest.mark.parametrize("gauge", GAUGES)
def test_row_blocks_do_not_change_the_objects(monkeypatch, gauge):
    adapters = [make_adapter(s, 4, 2.0, {"m": (200, 150)}) for s in range(4)]
    whole = build(adapters, 2, gauge)
    monkeypatch.setattr(rmm_basis, "_BLOCK_BYTES", 1)
    blocked = build(adapters, 2, gauge)
    torch.testing.assert_close(whole.basis.components[4], blocked.basis.components[4], rtol=1e-6, atol=1e-7)
    for a, b in zip(whole.deltas(), blocked.deltas(), strict=True):
        assert abs(a["m"] - b["m"]).max() < 1e-6


@pytest.mark.parametrize("gauge", GAUGES)
def test_members_projected_again_on_their_frozen_basis_are_the_same(gauge):
    adapters = [make_adapter(s, 6, 2.0, skip=["block.0.q"] if s == 4 else []) for s in range(6)]
    built = build(adapters, 2, gauge)
    for adapter, member, error in zip(adapters, built.members, built.errors(), strict=True):
        again = added(built, adapter)
        assert again.absent == member.absent
        assert stored_error(adapter, built.basis, again).total == pytest.approx(
            error, rel=0.02 if gauge == "procrustes" else 1e-6
        )


@pytest.mark.parametrize("gauge", ["svd", "procrustes"])
def test_adding_does_not_depend_on_the_factors(gauge):
    built = build([make_adapter(s, 6, 2.0) for s in range(6)], 2, gauge)
    new = make_adapter(77, 6, 0.5)
    errors = [stored_error(a, built.basis, added(built, a)).total for a in (new, regauged(new, 5))]
    assert errors[0] == pytest.approx(errors[1], rel=1e-5) and errors[0] > 0.0


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (make_adapter(1, 5), r"3 of 3 modules have no place.*rank 5, where the basis has ranks \[4\]"),
        (make_adapter(1, 4, modules=MODULES | {"block.9.new": (3, 3)}), "1 of 4 modules.*'block.9.new'.*which no member"),
    ],
)
def test_a_module_or_rank_without_a_place_is_refused(adapter, words):
    built = build([make_adapter(s) for s in range(3)], 1)
    with pytest.raises(IncompatibleError, match=words):
        project_adapter(adapter, built.basis, {})


def test_fewer_than_half_of_the_modules_in_common_is_refused_with_both_lists():
    first, second = make_adapter(1), make_adapter(2, modules={"block.0.q": (24, 18), "x": (3, 3), "y": (3, 3)})
    with pytest.raises(
        IncompatibleError, match=r"one and two have 1 modules.*block\.0\.v.*two has block\.0\.q, x, y"
    ) as caught:
        common_layout([first.shapes, second.shapes], ["one", "two"])
    assert caught.value.details == {"one": sorted(MODULES), "two": ["block.0.q", "x", "y"]}
    part = make_adapter(3, skip=["block.0.v"])
    assert len(list(common_layout([first.shapes, part.shapes], ["one", "three"]))) == 3


def test_a_value_beyond_float16_is_refused():
    big = [Adapter({"m": Factors(f.A, f.B * 1e6)}) for f in (make_factors(s, 5, 4, 2) for s in range(2))]
    with pytest.raises(UsageError, match="does not fit float16"):
        build(big, 1, dtype="float16")


def test_progress_counts_all_rows():
    adapters = [make_adapter(s) for s in range(3)]
    layout, told = common_layout([a.shapes for a in adapters], ["a", "b", "c"]), []
    blocks = {"mean.4": torch.zeros(120, 4), "components.4": torch.zeros(1, 120, 4)}
    members = [{"coefficients.4": torch.zeros(120, 1)} for _ in adapters]
    fit_collection(adapters, layout, blocks, members, gauge="given", progress=lambda done, total: told.append((done, total)))
    assert told == [(42, 120), (72, 120), (120, 120)]
    assert not math.isnan(float(blocks["mean.4"].sum()))


@pytest.mark.parametrize("gauge", GAUGES)
def test_the_number_of_threads_does_not_change_a_bit(gauge):
    adapters, before, found = [make_adapter(s, 6, 2.0) for s in range(5)], torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(build(adapters, 2, gauge))
    finally:
        torch.set_num_threads(before)
    first, second = found
    assert torch.equal(first.basis.components[6], second.basis.components[6])
    for a, b in zip(first.members, second.members, strict=True):
        assert torch.equal(a.coefficients[6], b.coefficients[6])
