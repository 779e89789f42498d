"""Objects that were written once and are read for ever."""

from __future__ import annotations

import json
import struct

import pytest

from adapterbank.codecs.coder import decode, inspect

from . import slow_decoder
from .made import digest
from .make_golden import GOLDEN, digests

EXPECTED: dict[str, dict[str, list[str]]] = json.loads((GOLDEN / "expected.json").read_text())
OBJECTS = {name: (GOLDEN / f"{name}.abrd").read_bytes() for name in EXPECTED}
KNOWN = {digest(data): data for data in OBJECTS.values()}


def test_no_object_is_forgotten():
    assert {path.stem for path in GOLDEN.glob("*.abrd")} == set(EXPECTED)
    assert sum(map(len, OBJECTS.values())) < 60_000


@pytest.mark.parametrize("name", EXPECTED)
def test_it_decodes_to_the_same_bits(name: str):
    assert digests(decode(OBJECTS[name], references=KNOWN)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_document_alone_is_enough(name: str):
    found = {}
    for module, (A, B) in slow_decoder.decode(OBJECTS[name], KNOWN).items():
        columns = zip(*B, strict=True)
        sides = [[value for row in A for value in row], [value for column in columns for value in column]]
        found[module] = [digest(struct.pack(f"<{len(side)}f", *side)) for side in sides]
    assert found == EXPECTED[name]


def test_extras_kinds_and_kernels_are_there():
    decoded = decode(OBJECTS["kinds"])
    assert decoded.extras["classifier.bias"].numpy().astype("<f4").tobytes() == struct.pack("<3f", 0.5, -0.0, float("inf"))
    assert (decoded.modules["conv"].kind, decoded.modules["conv"].kernel) == ("conv", (3, 3))
    assert decoded.modules["embed"].kind == "embedding"
    assert decoded.modules["zero"].rank == 1 and not decoded.modules["zero"].B.any()


def test_every_prediction_trellis_and_kind_of_sample_is_there():
    infos = {name: inspect(data) for name, data in OBJECTS.items()}
    assert {module.predict for info in infos.values() for module in info.modules} == {"none", "refined", "rows"}
    assert [len(infos[name].references) for name in ("rows-0", "rows-1", "rows-2", "refined", "chain")] == [0, 1, 2, 1, 2]
    assert {slow_decoder.taken_apart(data)[0] for data in OBJECTS.values()} == {3, 5}
    assert slow_decoder.taken_apart(OBJECTS["escapes"])[2]["escapes"]
    assert len(slow_decoder.taken_apart(OBJECTS["lanes"])[2]["states"]) > 16
