"""The integers below the codings, against slow obvious references in Python's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterbank.codecs.exact.codings import classes_from, classes_to, planes_from, planes_to, split_from, split_to
from adapterbank.codecs.exact.items import addition, difference, pack, packed_size, unpack
from adapterbank.codecs.exact.streams import Reader

WIDTH = st.sampled_from([2, 4, 8])


def array(values: list[int], width: int) -> np.ndarray:
    return np.array(values, dtype=f"<u{width}")


def numbers(width: int) -> st.SearchStrategy[list[int]]:
    top = 2 ** (8 * width) - 1
    return st.lists(st.one_of(st.integers(0, top), st.integers(0, 9), st.integers(top - 9, top)), min_size=1, max_size=60)


def folded(value: int, reference: int, bits: int) -> int:
    """The distance of two values' places in the order −NaN … −0, 0 … NaN, wrapped to b bits, and folded."""

    def place(item: int) -> int:
        return 2**bits - 1 - item if item >> (bits - 1) else item + 2 ** (bits - 1)

    distance = (place(value) - place(reference)) % 2**bits
    signed = distance - 2**bits if distance >> (bits - 1) else distance
    return 2 * signed if signed >= 0 else -2 * signed - 1


@given(WIDTH.flatmap(lambda width: st.tuples(st.just(width), numbers(width), numbers(width))))
def test_differences_against_the_definition(case: tuple[int, list[int], list[int]]):
    width, first, second = case
    count = min(len(first), len(second))
    values, reference = array(first[:count], width), array(second[:count], width)
    found = difference(values, reference)
    assert found.tolist() == [folded(a, b, 8 * width) for a, b in zip(first, second, strict=False)]
    assert addition(found, reference).tolist() == first[:count]


def test_neighbours_in_order_are_one_apart():
    """Also across zero: the float after −0 is 0, and −0 is one step from it."""
    values = np.array([-1e-45, -0.0, 0.0, 1e-45, 3e-45], dtype="<f4")
    steps = difference(values[1:].view("<u4"), values[:-1].view("<u4"))
    assert steps.tolist() == [2, 2, 2, 2]


@given(WIDTH.flatmap(lambda width: st.tuples(st.just(width), numbers(width), st.integers(1, 8 * width))))
def test_packing_against_text(case: tuple[int, list[int], int]):
    width, values, bits = case
    text = "".join(f"{value % 2**bits:0{bits}b}" for value in values)
    packed = pack(array(values, width), bits)
    assert packed == int(text.ljust(8 * len(packed), "0"), 2).to_bytes(len(packed), "big")
    assert len(packed) == packed_size(len(values), bits)
    assert unpack(packed, len(values), bits, width).tolist() == [value % 2**bits for value in values]


@given(WIDTH.flatmap(lambda width: st.tuples(st.just(width), numbers(width), st.integers(1, 8 * width - 2))))
def test_splits_come_back_at_every_bit(case: tuple[int, list[int], int]):
    width, values, shift = case
    reader = Reader(memoryview(split_to(array(values, width), shift)))
    assert split_from(reader, len(values), width, shift).tolist() == values
    reader.end()


@pytest.mark.parametrize(("to", "come"), [(classes_to, classes_from), (planes_to, planes_from)])
@given(data=st.data())
def test_classes_and_planes_come_back(to, come, data: st.DataObject):
    width = data.draw(st.sampled_from([2, 4]))
    values = data.draw(numbers(width))
    reader = Reader(memoryview(to(array(values, width))))
    assert come(reader, len(values), width).tolist() == values
    reader.end()
