"""Objects whose checksum is right and whose content is not: refused as damaged, with little memory, and nothing else."""

from __future__ import annotations

import pytest

from adapterbank.codecs.coder import decode, inspect
from adapterbank.errors import IntegrityError, NotFoundError
from tests.codecs.coder.objects import about, claiming, packed, rebuilt, with_layout
from tests.codecs.coder.slow_decoder import taken_apart
from tests.codecs.coder.test_golden import KNOWN, OBJECTS


def refused(data: bytes, known=KNOWN) -> None:
    with pytest.raises((IntegrityError, NotFoundError)):
        decode(data, references=known)


BASE = OBJECTS["kinds"]


@pytest.mark.parametrize("size", [1 << 31, 1 << 63, 10**400, float("inf")])
def test_huge_dimensions(size):
    refused(with_layout(BASE, 0, d_out=size))


def test_a_huge_module_of_which_nothing_was_kept():
    names = [row[0] for row in about(BASE)["layout"]]
    refused(with_layout(BASE, names.index("zero"), d_out=1 << 40))


@pytest.mark.parametrize("name", [5, None, [1], {}])
def test_names_that_are_none(name):
    refused(with_layout(BASE, 0, name=name))


def test_a_name_twice():
    refused(with_layout(BASE, 0, name=about(BASE)["layout"][1][0]))


@pytest.mark.parametrize("kind", [5, None, [1], "weird"])
def test_kinds_that_are_none(kind):
    refused(with_layout(BASE, 0, kind=kind))


@pytest.mark.parametrize("references", [5, None, "abc", {"a": 1}, [1], ["x"], ["0" * 64] * 40])
def test_references_that_are_none(references):
    with pytest.raises(IntegrityError):
        inspect(rebuilt(BASE, about=packed(about(BASE) | {"references": references})))


def test_deep_json():
    refused(rebuilt(BASE, about=packed(b"[" * 100_000)))


@pytest.mark.parametrize("root", [float("nan"), float("inf"), -1.0, 0.0])
def test_steps_that_are_none(root):
    import struct

    from tests.codecs.coder.objects import sealed

    data = bytearray(BASE)
    data[8:12] = struct.pack("<f", root)
    refused(sealed(bytes(data)))


def test_extras_that_claim_much():
    refused(rebuilt(BASE, extras=claiming(1 << 34)))  # MemoryError, or 16 GB


@pytest.mark.parametrize(
    "text",
    [
        b"5",
        b'"x"',
        b'{"__metadata__":{"adapterbank":"{}"},"a":{"dtype":"Q","shape":[1],"data_offsets":[0,1]}}',
        b'{"__metadata__":{"adapterbank":"{}"},"a":{"dtype":"F32","shape":["x"],"data_offsets":[0,1]}}',
        b'{"__metadata__":{"adapterbank":"{}"},"a":{"dtype":"F32","shape":[0,-5],"data_offsets":[0,0]}}',
        b'{"__metadata__":{"adapterbank":"{}"},"a":{"dtype":"F32","shape":[99999999999999999999,0],"data_offsets":[0,0]}}',
        b'{"__metadata__":{"adapterbank":"NaN"}}',
        b"[" * 100_000,
    ],
    ids=lambda text: text[-60:].decode()[:30],
)
def test_extras_that_are_no_container(text: bytes):
    text += b" " * (-len(text) % 8)
    refused(rebuilt(BASE, extras=packed(len(text).to_bytes(8, "little") + text)))


def test_choices_cut_within_the_classes_of_rows():
    """RuntimeError: generator raised StopIteration (choices.py, ``few, rest = (… for _ in (0, 1))``)."""
    content = taken_apart(OBJECTS["rows-2"])[2]["choices"]
    for cut in range(len(content)):
        refused(rebuilt(OBJECTS["rows-2"], choices=content[:cut]))


def test_a_difference_to_a_module_of_another_shape():
    data = OBJECTS["difference"]
    refused(data, {inspect(data).references[0]: OBJECTS["rows-0"]})
