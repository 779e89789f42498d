"""The objects on disk: golden bytes, a round trip, and what a reader refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapterbank import container
from adapterbank.errors import IntegrityError, UsageError
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.rmm.members import reconstruct_rows
from adapterbank.rmm.objects import Basis, Member, basis_plan, class_components, member_plan
from tests.rmm.build import blank

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "ab" * 32
LAYOUT = Layout.of_places(
    [ModuleShape("emb", 3, 4, 2, "embedding"), ModuleShape("q", 2, 3, 2), ModuleShape("conv", 2, 9, 4, "conv", (3, 3))]
)
OWN = Layout.of([ModuleShape("q", 2, 3, 2), ModuleShape("conv", 2, 9, 4, "conv", (3, 3))])
COMPONENTS = {2: 1, 4: 2}


def filled(plan: container.Plan) -> bytes:
    """The object with 0, ¼, ½, … in every tensor."""
    data = blank(plan)
    for tensor in container.tensors(data, plan).values():
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) / 4)
    return bytes(data)


def basis_bytes(dtype: str = "float32") -> bytes:
    return filled(basis_plan(LAYOUT, COMPONENTS, p=2, gauge="svd", dtype=dtype))


def member_bytes(dtype: str = "float32") -> bytes:
    return filled(member_plan(LAYOUT, OWN, COMPONENTS, p=2, dtype=dtype, basis=DIGEST))


@pytest.mark.parametrize(
    ("name", "data"), [("basis-1", basis_bytes()), ("basis-1-bf16", basis_bytes("bfloat16")), ("member-1", member_bytes())]
)
def test_the_format_has_not_changed(name, data):
    assert (GOLDEN / f"{name}.safetensors").read_bytes() == data


def test_golden_objects_are_read():
    basis = Basis.from_object(*container.read(bytearray((GOLDEN / "basis-1.safetensors").read_bytes())))
    member = Member.from_object(*container.read(bytearray((GOLDEN / "member-1.safetensors").read_bytes())), DIGEST)
    assert (basis.layout, basis.gauge, basis.p, basis.dtype) == (LAYOUT, "svd", 2, "float32")
    assert (
        basis.mean[4].shape == (11, 4) and basis.components[4].shape == (2, 11, 4) and basis.components[2].shape == (1, 12, 2)
    )
    assert (member.layout, member.absent, member.coefficients[4].shape) == (OWN, ("emb",), (11, 2))
    rows = reconstruct_rows(basis, member)[2]
    assert rows[:7].count_nonzero() == 0  # emb comes first, and the member lacks it
    # row 7 of the class is row 0 of q: mean (3.5, 3.75) + coefficient 0 · component
    torch.testing.assert_close(rows[7], torch.tensor([3.5, 3.75]))
    torch.testing.assert_close(rows[8], torch.tensor([4.0 + 0.25 * 4.0, 4.25 + 0.25 * 4.25]))


def test_any_safetensors_reader_opens_them():
    from safetensors.torch import load

    tensors = load(basis_bytes())
    assert sorted(tensors) == ["components.2", "components.4", "mean.2", "mean.4"]


def test_size_and_offsets_do_not_depend_on_the_digest():
    plans = [member_plan(LAYOUT, OWN, COMPONENTS, p=2, basis=digest) for digest in ("0" * 64, DIGEST)]
    assert plans[0].size == plans[1].size and plans[0].specs == plans[1].specs


def test_a_member_of_another_basis_is_refused():
    with pytest.raises(IntegrityError, match=f"member of basis sha256:{DIGEST} was read with basis sha256:{'cd' * 32}"):
        Member.from_object(*container.read(bytearray(member_bytes())), "cd" * 32)


def test_a_basis_is_no_member_and_a_later_format_is_refused():
    metadata, tensors = container.read(bytearray(basis_bytes()))
    with pytest.raises(IntegrityError, match=r"'rmm\.basis'.*expected 'rmm\.member'"):
        Member.from_object(metadata, tensors, DIGEST)
    with pytest.raises(IntegrityError, match=r"format 2, expected 'rmm\.basis' of format 1"):
        Basis.from_object(metadata | {"format": 2}, tensors)


@pytest.mark.parametrize(
    "change", [{}, {"mean.2": torch.zeros(11, 2)}, {"mean.2": torch.zeros(12)}, {"components.4": torch.zeros(2, 11, 3)}]
)
def test_tensors_that_do_not_fit_the_layout_are_refused(change):
    metadata, tensors = container.read(bytearray(basis_bytes()))
    changed = tensors | change
    if not change:
        del changed["mean.2"]
    with pytest.raises(IntegrityError, match=r"lacks tensor '(mean\.2|components\.4)'"):
        Basis.from_object(metadata, changed)


def test_an_unknown_store_dtype_is_refused():
    with pytest.raises(UsageError, match="'int8' does not exist: expected one of float32, float16, bfloat16"):
        basis_plan(LAYOUT, COMPONENTS, p=2, gauge="svd", dtype="int8")


def test_components_of_a_class_follow_its_rank_and_its_most_held_module():
    a, b, high = ModuleShape("a", 5, 5, 2), ModuleShape("b", 5, 5, 2), ModuleShape("a", 5, 5, 8)
    collections = [[a, b], [a], [a, b], [a], [high], [high], [high]]
    layout = Layout.union(collections)
    assert [class_components(layout, collections, p) for p in (0, 1, 3, 9)] == [
        {2: 0, 8: 0},
        {2: 1, 8: 1},
        {2: 2, 8: 2},
        {2: 2, 8: 2},
    ]
