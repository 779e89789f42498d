"""Objects whose checksum is right and whose content is not: refused as damaged, with little memory, and nothing else."""

from __future__ import annotations

import pytest

from adapterbank.codecs.coder import decode, inspect
from adapterbank.errors import IntegrityError, NotFoundError
from tests.codecs.coder.made import digest
from tests.codecs.coder.objects import about, claiming, packed, rebuilt, varints, with_layout
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


@pytest.mark.parametrize("name", ["rows-2", "refined"])
def test_choices_cut_anywhere(name: str):
    content = taken_apart(OBJECTS[name])[2]["choices"]
    for cut in range(len(content)):
        refused(rebuilt(OBJECTS[name], choices=content[:cut]))


def test_a_reference_of_another_shape_is_none_to_refine():
    data = OBJECTS["refined"]
    refused(data, {inspect(data).references[0]: OBJECTS["rows-0"]})


@pytest.mark.parametrize("origins", [[5, 0], [1 << 40, 0], [3, 1 << 62, 0]])
def test_components_that_the_reference_lacks_are_none_to_refine(origins: list[int]):
    """Also where their count is more than that of the components kept, or their sum beyond any integer."""
    count = len(origins) - 1
    refused(rebuilt(OBJECTS["refined"], choices=b"\0" + varints([1, 1, count, *origins, 0, 0, 0, 0])))


def refining(references: list[str], *modules: list[int]) -> bytes:
    """An object of two modules of the sizes of ``parent`` and without samples, with these choices."""
    data, empty = OBJECTS["parent"], dict.fromkeys(("states", "words", "raw", "escapes"), b"")
    named = packed(about(data) | {"references": references})
    return rebuilt(data, about=named, choices=b"\0" + varints([n for one in modules for n in one]), **empty)


PARENT = digest(OBJECTS["parent"])
SILENT = 14  # class −7


def moved(by: int, before: int = 0) -> list[int]:
    """The first component of the reference, its gain moved, and nothing else."""
    change = before - by
    return [1, 1, 1, 0, 2 * change if change >= 0 else -2 * change - 1, SILENT, SILENT]


def test_an_object_may_have_no_samples():
    found, parent = decode(refining([PARENT], moved(0), moved(0)), references=KNOWN), decode(OBJECTS["parent"])
    for name, own in found.modules.items():
        assert own.A.equal(parent.modules[name].A[:1]) and own.B.equal(parent.modules[name].B[:, :1])


@pytest.mark.parametrize("move", [169, -169, 1 << 40])
def test_gains_that_moved_too_far_are_refused(move: int):
    refused(refining([PARENT], moved(move), moved(0, move)))


def test_points_that_grow_from_version_to_version_are_refused():
    """Each move lengthens the vectors 128 times: four of them would reach beyond 2³¹."""
    known, names = dict(KNOWN), [PARENT]
    for _ in range(4):
        data = refining(names, moved(168), moved(168, 168))
        known[digest(data)] = data
        names.append(digest(data))
    decode(known[names[1]], references=known)
    with pytest.raises(IntegrityError, match="beyond all bounds"):
        decode(known[names[4]], references=known)


def test_five_references_are_too_many():
    refused(refining([PARENT] * 5, moved(0), moved(0)))
