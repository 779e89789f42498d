"""What is resident gives the rows that the stored forms say, in every store, whole and in shards."""

import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.pack import pack
from adapterbank.rmm.members import reconstruct_adapter
from adapterbank.serving.kernels.reference import Window, write
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, ResidentMember, RmmAdapter
from adapterbank.serving.packed.stored import STORES, Stored
from adapterbank.serving.slots import SlotLayout
from tests.serving.made import adapter, basis, fixed_form

THREE = [
    adapter(1),
    adapter(2, skip=("layers.0.q_proj",)),
    adapter(3, ranks={"layers.0.q_proj": 2, "layers.0.down_proj": 3, "layers.1.q_proj": 4}),
]
LAYOUT = SlotLayout.of((shape for each in THREE for shape in each.shapes), 6)


def rmm(number, store="float32", p=2, layout=LAYOUT):
    made, members = basis(THREE, p)
    resident = ResidentBasis.of(made, layout, store)
    return RmmAdapter(resident, ResidentMember.of(members[number], resident)), reconstruct_adapter(made, members[number])


def packed(kind, number, layout=LAYOUT):
    """A resident adapter, and the adapter that it is to give."""
    if kind == "rmm":
        return rmm(number, layout=layout)
    if kind == "fixed":
        form = fixed_form(THREE[number])
        return FixedAdapter.of(form, layout), form.adapter()
    return RawAdapter.of(THREE[number], layout, "float32"), THREE[number]


def rows_of(value, place):
    """The rows of one place of an adapter by hand, with ``place.whole.rank`` columns."""
    out = torch.zeros(place.shape.rows, place.whole.rank)
    factors = value.modules.get(place.whole.name)
    if factors is not None:
        B, A = pack(factors).split([factors.d_out, factors.d_in])
        both = torch.cat([B[place.out.start : place.out.stop], A[place.into.start : place.into.stop]])
        out[:, : factors.rank] = both
    return out


@pytest.mark.parametrize("store", STORES)
def test_integers_are_off_by_half_a_step_at_most_and_numbers_by_their_rounding(store):
    rows = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(1))
    rows[0, 4] = 0.0
    stored = Stored.of(rows, store)
    if stored.scales is None:
        assert torch.equal(stored.float(), rows.to(getattr(torch, store)).float())
        return
    assert ((stored.float() - rows).abs() <= 0.5 * stored.scales.float().unsqueeze(-1) * (1 + 1e-6)).all()
    assert stored.nbytes == 60 * (2 + (5 if store == "int8" else 3))


def test_a_store_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="store 'int2': expected one of float32"):
        Stored.of(torch.zeros(1, 1), "int2")


@pytest.mark.parametrize("kind", ["rmm", "fixed", "raw"])
@pytest.mark.parametrize("number", range(3))
def test_the_buffer_holds_the_adapter_and_exact_zeros_elsewhere(kind, number):
    resident, wanted = packed(kind, number)
    out = torch.full((LAYOUT.size,), torch.nan)
    write([resident], [out])
    for place in LAYOUT:
        block = out[place.offset : place.offset + place.size].view(-1, place.whole.rank)
        torch.testing.assert_close(block, rows_of(wanted, place), rtol=1e-6, atol=1e-6)
        if place.whole.name not in wanted.modules:
            assert not block.any()


@pytest.mark.parametrize("kind", ["rmm", "fixed", "raw"])
def test_shards_hold_slices_of_the_whole(kind):
    whole, _ = packed(kind, 0)
    full = torch.zeros(LAYOUT.size)
    write([whole], [full])
    for rank in (0, 1):
        layout = LAYOUT.shard(rank, 2)
        resident, _ = packed(kind, 0, layout)
        part = torch.zeros(layout.size)
        write([resident], [part])
        assert resident.nbytes <= whole.nbytes
        views, wholes = layout.views(part), LAYOUT.views(full)
        for place in layout:
            name = place.whole.name
            assert torch.equal(views[name].B, wholes[name].B[place.out.start : place.out.stop])
            assert torch.equal(views[name].A, wholes[name].A[:, place.into.start : place.into.stop])


@pytest.mark.parametrize("store", STORES)
def test_a_basis_in_every_store_is_the_sum_of_what_is_stored(store):
    resident, wanted = rmm(0, store)
    out = torch.zeros(LAYOUT.size)
    write([resident], [out])
    found, exact = LAYOUT.views(out), wanted
    loss = {"float32": 1e-6, "bfloat16": 1e-6, "float16": 1e-3, "int8": 0.02, "int4": 0.3}[store]
    for name, factors in exact.modules.items():
        error = (found[name].B[:, : factors.rank] - factors.B).norm() / factors.B.norm()
        assert error < loss
    assert resident.basis.nbytes > 0 and resident.nbytes == resident.member.coefficients.nbytes


def test_windows_write_side_by_side_and_leave_the_rest():
    small = SlotLayout.of(shape for each in THREE for shape in each.shapes)
    wide = SlotLayout.of((shape for each in THREE for shape in each.shapes), 8)
    first, second = RawAdapter.of(THREE[0], wide, "float32"), RawAdapter.of(THREE[1], wide, "float32")
    out = torch.full((wide.size,), 7.0)
    write([first, second], [out, out], [Window(0, 4, 0.5), Window(4, None, -2.0)])
    alone = [torch.zeros(small.size) for _ in range(2)]
    for each, buffer in zip(THREE[:2], alone, strict=True):
        write([RawAdapter.of(each, small, "float32")], [buffer])
    for name, factors in wide.views(out).items():
        one, two = (small.views(buffer)[name] for buffer in alone)
        wanted = 0.5 * one.B @ one.A - 2.0 * two.B @ two.A
        torch.testing.assert_close(factors.B @ factors.A, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="3 columns do not fit into a window of 2"):
        write([first], [out], [Window(0, 2)])


def test_what_does_not_fit_is_refused():
    narrow = SlotLayout.of(
        adapter(1, ranks=dict.fromkeys(("layers.0.q_proj", "layers.0.down_proj", "layers.1.q_proj"), 2)).shapes
    )
    made, _ = basis(THREE, 1)
    for making in (lambda: RawAdapter.of(THREE[0], narrow, "float32"), lambda: ResidentBasis.of(made, narrow, "float32")):
        with pytest.raises(IncompatibleError, match="the buffer has"):
            making()
