"""The layout: rows that tile, one text for equal layouts, and refusals that name both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterbank.errors import IncompatibleError
from adapterbank.lora.layout import Layout, ModuleShape

names = st.text("abc.01", min_size=1, max_size=6)
dims = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def collections(draw):
    """Adapters that agree on the dimensions of each module, at ranks of their own."""
    sizes = draw(st.dictionaries(names, dims, min_size=1, max_size=6))

    def of_one():
        held = draw(st.lists(st.sampled_from(sorted(sizes)), unique=True))
        return [ModuleShape(name, *sizes[name], draw(st.sampled_from([1, 4, 16]))) for name in held]

    return [of_one() for _ in range(draw(st.integers(1, 4)))]


@given(collections())
def test_every_module_of_every_adapter_has_rows_of_its_own(found):
    layout = Layout.union(found)
    assert {shape for shapes in found for shape in shapes} == set(layout)
    assert [block.rank for block in layout.classes] == sorted({shape.rank for shape in layout})
    for block in layout.classes:
        covered = [row for shape in block.modules for row in range(block.rows)[block.rows_of(shape)]]
        assert covered == list(range(block.rows))
        assert all(shape.rank == block.rank for shape in block.modules)
    assert layout.parameters == sum(block.rows * block.rank for block in layout.classes)


@given(collections(), st.randoms())
def test_text_is_canonical_and_comes_back(found, order):
    layout = Layout.union(found)
    shuffled = [list(shapes) for shapes in found]
    order.shuffle(shuffled)
    for shapes in shuffled:
        order.shuffle(shapes)
    assert Layout.union(shuffled).to_json() == layout.to_json()
    assert Layout.from_json(layout.to_json()) == layout


def test_kind_and_kernel_survive_text():
    shapes = [ModuleShape("conv", 8, 27, 4, "conv", (3, 3)), ModuleShape("emb", 16, 100, 2, "embedding")]
    assert list(Layout.from_json(Layout.of(shapes).to_json())) == sorted(shapes, key=lambda shape: shape.rank)


def test_a_module_at_two_ranks_has_two_places():
    layout = Layout.union([[ModuleShape("q", 4, 3, 8)], [ModuleShape("q", 4, 3, 256)]])
    assert [(block.rank, block.rows) for block in layout.classes] == [(8, 7), (256, 7)]
    assert layout[256].modules[0].rank == 256


@pytest.mark.parametrize(
    "other", [ModuleShape("q", 5, 3, 8), ModuleShape("q", 4, 2, 8), ModuleShape("q", 4, 3, 8, "embedding")]
)
def test_other_dimensions_or_kinds_are_refused(other):
    with pytest.raises(IncompatibleError, match=r"'q' has different shapes.*4×3 linear"):
        Layout.union([[ModuleShape("q", 4, 3, 8)], [other]])
