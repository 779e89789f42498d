"""A frozen bank of schema 0001 opens, verifies, and gives back what it gave when it was made."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapterbank import Bank, container
from adapterbank.catalog import tables
from adapterbank.catalog.digests import PROTECTED
from adapterbank.container import TensorSpec
from adapterbank.vault.compressed import expand
from tests.adapters import write_adapter
from tests.golden.make import BASES, EXPECTED, MODULES, PLACE, expected, make

TRUTH = json.loads(EXPECTED.read_text())
OBJECTS = sorted(path for path in (PLACE / "objects").rglob("*") if path.is_file())
# SHA-256 of the float32 factors of each member: computed in float64 from the objects' bytes, one operation at a time.
FACTORS = {
    "full law@1": "1d6b60890ba951018ffb269c06051609518daf4802a4c63a4f17ebf00c79a7ae",
    "full math@1": "c153f91c191f025be0563e0210140301bfc50492b84428b98b1b1dd16284635d",
    "full sql@1": "f62a14542efb9139764282e6ae94fb870d30a8605ff60b8f6b33efd44b9ef33d",
    "full sql@2": "12911dbcf33a9f1eadb1471fd8e5dc81130d44e738109487979cb2ac18a20116",
    "half law@1": "869b8fe7fa0dbb69783ab49ddd93744a4de04a91fb73f8f7489b3c5bb7dcaa16",
    "half math@1": "3de61baa2f58d3a38df190d7aac145f7ec527d993a5475d15e359e2c45d58aef",
    "half sql@1": "8a223d8174d3d03e7ad9c7519527e154b048381c7c0230c254eb2d59e73bced7",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy without the empty folders, as a version control system or an archive may leave it."""
    return Path(shutil.copytree(PLACE, tmp_path / "bank"))


@pytest.fixture
def bank(place: Path) -> Iterator[Bank]:
    with Bank.open(place, readonly=True) as opened:
        yield opened


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in PLACE.rglob("*") if path.is_file()) < 200_000


def test_everything_that_was_stored_is_read(place: Path, bank: Bank) -> None:
    found = expected(place)
    for what, truth in TRUTH.items():
        assert found[what] == truth, what


def test_it_verifies(bank: Bank) -> None:
    verification = bank.verify()
    assert verification.problems == ()
    assert verification.objects == len(OBJECTS)
    assert bank.rooms.catalog.settings()["schema_revision"] == "0001"


def test_every_object_has_its_digest_as_its_name() -> None:
    assert len(OBJECTS) > 10
    plain = [path for path in OBJECTS if not path.suffix]
    assert len(plain) < len(OBJECTS), "some lie compressed"
    for path in OBJECTS:
        content = path.read_bytes() if path in plain else expand(path.read_bytes())
        assert path.parent.name + path.stem == sha256(content).hexdigest()


@pytest.mark.parametrize("basis", BASES)
def test_members_come_back(bank: Bank, basis: str) -> None:
    for member in bank.members(basis):
        truth = factors(object_bytes(bank.basis(basis).object), object_bytes(member.object))
        digest = sha256(b"".join(truth[name].astype("<f4").tobytes() for name in sorted(truth))).hexdigest()
        assert digest == FACTORS[f"{basis} {member.version}"], member.version
        modules = bank.reconstruct(member.version, basis=basis).modules
        assert {name.rpartition(".")[0] for name in truth} == set(modules)
        for name, found in modules.items():
            np.testing.assert_allclose(found.B.numpy(), truth[f"{name}.B"], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found.A.numpy(), truth[f"{name}.A"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["mix", "learned"])
def test_the_merges_are_replayed(bank: Bank, name: str) -> None:
    assert bank.replay(name).outcome in ("bits", "within 3e-7")


def test_what_was_learned_is_read(bank: Bank) -> None:
    """docs/formats.md: a module's tensor is under the key that ``modules`` says; read with numpy alone."""
    for artefact in bank.artefacts(kind="gram"):
        about, tensors = read(object_bytes(artefact.object))
        assert (about["kind"], about["of"], [about["adapter"]]) == ("merge.statistics", "gram", list(artefact.adapters))
        assert about["modules"]["layer.0.query"] == about["modules"]["layer.0.value"] == "first"
        np.testing.assert_array_equal(tensors["second"], np.eye(5) * 3 * int(artefact.versions[0].partition("@")[2]))


def test_it_can_be_written_to(place: Path, tmp_path: Path) -> None:
    with Bank.open(place, create=True) as bank:
        assert bank.register(write_adapter(tmp_path / "more", MODULES, rank=3, seed=20), name="sql").version.ref == "sql@3"
        assert bank.add_to_basis("full", "sql@3", force=True).basis == "full@1"
        assert bank.verify().problems == ()


def test_it_is_made_the_same_again(tmp_path: Path) -> None:
    """Two runs here give the same files; those of the golden bank may differ in the last bits of what is computed."""
    for name in ("first", "second"):
        make(tmp_path / name)
    first, second = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("first", "second")
    )
    assert first == second


def test_the_header_of_a_container() -> None:
    specs = [TensorSpec("b", "BF16", (3,)), TensorSpec("z", "F32", (2, 1)), TensorSpec("a", "F32", (1,))]
    header = container.plan(specs, {"kind": "x", "n": [1, None]}).header
    text = (
        rb'{"__metadata__":{"adapterbank":"{\"kind\":\"x\",\"n\":[1,null]}"},'
        rb'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},'
        rb'"b":{"dtype":"BF16","shape":[3],"data_offsets":[12,18]}}'
    )
    padded = text + b" " * (-len(text) % 8)
    assert header == len(padded).to_bytes(8, "little") + padded


def test_row_digests_are_as_documented() -> None:
    """docs/formats.md: SHA-256 of the JSON list of the table's name and its fields in order."""
    with closing(sqlite3.connect(f"file:{PLACE / 'catalog.db'}?mode=ro", uri=True)) as other:
        rows = {
            "objects": ("id, digest, bytes", ()),
            "edges": ("dependent, needed, kind", ()),
            "aliases": ("name_id, alias, version_id", ()),
            "recipes": ("version_id, method, body, residual, environment", (3,)),
            "members": (
                "id, basis_id, version_id, codec, object, reference_objects, bytes, error, error_kind, absent, module_errors",
                (7,),
            ),
        }
        for table, (columns, floats) in rows.items():
            found = other.execute(f"SELECT row_digest, {columns} FROM {table}").fetchall()
            assert found
            for digest, *fields in found:
                values = [repr(value) if number in floats else value for number, value in enumerate(fields)]
                values = [value.hex() if isinstance(value, bytes) else value for value in values]
                text = json.dumps([table, *values], separators=(",", ":"))
                assert sha256(text.encode()).hexdigest() == digest


def test_the_document_names_every_table_and_field() -> None:
    document = (PLACE.parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, table in tables.metadata.tables.items():
        sealed = PROTECTED.get(name, ())
        free = [column.name for column in table.columns if column.name not in {*sealed, "row_digest"}]
        cells = [", ".join(f"`{field}`" for field in fields) for fields in (sealed, free)]
        line = f"| `{name}` | {cells[0] or '–'} | {cells[1]} |".replace("|  |", "| |")
        assert line in document.splitlines()


def object_bytes(digest: str) -> bytes:
    return (PLACE / "objects" / digest[:2] / digest[2:]).read_bytes()


def factors(basis: bytes, member: bytes) -> dict[str, np.ndarray]:
    """``MODULE.B`` and ``MODULE.A`` of a member, float32, read as docs/formats.md says, with numpy alone."""
    about, shared = read(basis)
    own, coefficients = read(member)
    assert own["basis"] == sha256(basis).hexdigest()
    found, at = {}, 0
    for name, d_out, d_in, rank, _, _ in own["layout"]:
        start = 0
        for other, rows_out, rows_in, other_rank, _, _ in about["layout"]:
            if (other, other_rank) == (name, rank):
                break
            start += (rows_out + rows_in) * (other_rank == rank)
        there, here = slice(start, start + d_out + d_in), slice(at, at + d_out + d_in)
        rows = shared[f"mean.{rank}"][there]
        for k, component in enumerate(shared[f"components.{rank}"]):
            rows = rows + coefficients[f"coefficients.{rank}"][here, k, None] * component[there]
        found[f"{name}.B"], found[f"{name}.A"] = rows[:d_out].astype("<f4"), rows[d_out:].T.astype("<f4")
        at += d_out + d_in
    return found


def read(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and tensors, float64, of an object."""
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    metadata = json.loads(entries.pop("__metadata__")["adapterbank"])
    tensors = {}
    for name, entry in entries.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        raw = np.frombuffer(data[begin:end], "<u2" if entry["dtype"] == "BF16" else "<f4")
        wide = (raw.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else raw
        tensors[name] = wide.astype(np.float64).reshape(entry["shape"])
    return metadata, tensors
