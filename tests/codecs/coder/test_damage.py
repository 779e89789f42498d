"""Damaged objects are refused with IntegrityError; hostile ones, of a right checksum, are decoded to something or refused."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Mapping

import pytest

from adapterbank.codecs.coder import decode, inspect
from adapterbank.errors import IntegrityError, NotFoundError

from .objects import claiming, packed, rebuilt, sealed, varints, with_layout
from .slow_decoder import taken_apart
from .test_golden import KNOWN, OBJECTS

SMALL = ("states-32", "kinds", "refined", "rows-2")


def refused(data: bytes, references: Mapping[str, bytes] = KNOWN) -> None:
    with pytest.raises(IntegrityError):
        decode(data, references=references)


def decoded_or_refused(data: bytes) -> bool:
    """Whether ``data`` was refused; any other error than these two is none of ours."""
    try:
        decode(data, references=KNOWN)
    except (IntegrityError, NotFoundError):
        return True
    return False


@pytest.mark.parametrize("name", SMALL)
def test_every_flipped_bit_is_found(name: str):
    data = OBJECTS[name]
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(bytes(damaged))


@pytest.mark.parametrize("name", SMALL)
def test_every_cut_and_extension_is_found(name: str):
    data = OBJECTS[name]
    for cut in range(len(data)):
        refused(data[:cut])
    for more in (b"\0", data[-8:], data):
        refused(data + more)


def test_inspect_finds_damage_too():
    data = OBJECTS["kinds"]
    for at in range(len(data)):
        with pytest.raises(IntegrityError):
            inspect(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])


@pytest.mark.parametrize("name", ["states-32", "refined", "rows-2", "hidden", "escapes"])
def test_damage_that_is_sealed_again_is_decoded_or_refused(name: str):
    data, rng = OBJECTS[name], random.Random(len(name))
    damaged = [bytearray(data) for _ in range(50)]
    for each in damaged:
        each[rng.randrange(len(data) - 8)] ^= 1 << rng.randrange(8)
    outcomes = [decoded_or_refused(sealed(bytes(each))) for each in damaged]
    assert any(outcomes)


@pytest.mark.parametrize("name", ["states-32", "escapes"])
def test_sections_cut_and_extended_are_decoded_or_refused(name: str):
    data = OBJECTS[name]
    for section, content in taken_apart(data)[2].items():
        for other in (b"", content[:-1], content[: len(content) // 2], content + b"\0", content + content):
            refusal = decoded_or_refused(rebuilt(data, **{section: other}))
            assert refusal or other == content or section in ("about", "raw")


@pytest.mark.parametrize("states", [0, 1, 7, 32, 64, 255])
def test_a_trellis_that_does_not_exist_is_refused(states: int):
    data = bytearray(OBJECTS["kinds"])
    data[6] = states
    refused(sealed(bytes(data)))


@pytest.mark.parametrize(("at", "value"), [(4, 2), (4, 0), (7, 1), (0, 0x42)])
def test_another_format_is_refused(at: int, value: int):
    data = bytearray(OBJECTS["kinds"])
    data[at] = value
    refused(sealed(bytes(data)))


@pytest.mark.parametrize("length", [0, 2**31, 2**32 - 1])
def test_lengths_that_do_not_fill_the_object_are_refused(length: int):
    for section in range(7):
        data = bytearray(OBJECTS["kinds"])
        was = data[12 + 4 * section : 16 + 4 * section]
        data[12 + 4 * section : 16 + 4 * section] = struct.pack("<I", length)
        if was != struct.pack("<I", length):
            refused(sealed(bytes(data)))


@pytest.mark.parametrize("changes", [{"d_out": -1}, {"d_in": "x"}, {"d_in": None}, {"rank": 0}, {"kernel": 5}], ids=str)
def test_a_layout_that_is_none_is_refused(changes: dict[str, object]):
    refused(with_layout(OBJECTS["kinds"], 0, **changes))


@pytest.mark.parametrize("text", [b"[]", b"5", b'"x"', b"null", b"{}", b'{"layout":5}', b'{"layout":[5]}', b"\xff\xfe", b""])
def test_an_about_that_is_none_is_refused(text: bytes):
    refused(rebuilt(OBJECTS["kinds"], about=packed(text)))
    refused(rebuilt(OBJECTS["kinds"], about=text))


@pytest.mark.parametrize("numbers", [[3, 0], [0, 9], [2, 1, 0], [1, 70000], [0, 1, 1 << 62], [0, 1, 9000]])
def test_choices_out_of_bounds_are_refused(numbers: list[int]):
    refused(rebuilt(OBJECTS["states-32"], choices=b"\0" + varints(numbers + [0] * 40)))


@pytest.mark.parametrize("size", [1 << 20, 1 << 24])
def test_more_samples_than_there_are_states_for_take_no_memory(size: int):
    data = with_layout(OBJECTS["kinds"], 0, d_out=size)
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_sections_that_claim_too_much_are_refused_before_memory_is_taken():
    tracemalloc.start()
    try:
        refused(rebuilt(OBJECTS["kinds"], about=claiming(1 << 27)))
        refused(rebuilt(OBJECTS["kinds"], extras=claiming(1 << 40)))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
