"""Writes the golden bank anew: ``python -m tests.golden.make``. Only for a new format; the old bank stays beside the new one.

The same environment gives the same bytes: adapters from a seed, a clock that stands still, a fixed record of the environment.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from adapterbank import Bank
from adapterbank.catalog.rows import Member, Version
from adapterbank.merge.artefacts import Statistics
from adapterbank.ways.artefacts import keep
from tests.adapters import write_adapter

HERE = Path(__file__).parent
PLACE, EXPECTED = HERE / "bank-0001", HERE / "expected-0001.json"
TIME = "2025-01-01T00:00:00.000000Z"
MODULES = {"layer.0.query": (6, 5), "layer.0.value": (6, 5), "layer.1.query": (6, 5)}
BASES = {"full": "float32", "half": "bfloat16"}
COLLECTION = "coded"


def make(place: Path) -> None:
    """A bank with every kind of row and object: originals, a compacted one, bases in two dtypes, a collection, forms that stand
    alone, merges, one of them with statistics, aliases, labels."""
    with still_clock(), tempfile.TemporaryDirectory() as folder, Bank.open(place, create=True) as bank:
        for seed, name in enumerate(("sql", "math", "law")):
            dtype = "bfloat16" if name == "law" else "float32"
            source = write_adapter(Path(folder) / name, MODULES, rank=3, alpha=6 + seed, seed=seed, dtype=dtype)
            bank.register(source, name=name, alias="prod", tags={"team": name}, metrics={"acc": 0.5 + seed / 8}, note="golden")
        source = write_adapter(Path(folder) / "sql2", {"layer.0.query": (6, 5)}, rank=3, seed=9, use_rslora=True)
        bank.register(source, name="sql", parent="sql@1")
        bank.alias_base_model("tiny/encoder", "served")
        for name, dtype in BASES.items():
            bank.build_basis(name, ["sql@1", "math", "law"], components=2, gauge="svd", dtype=dtype, force=True)
        bank.add_to_basis("full", "sql@2", force=True)
        bank.build_basis(COLLECTION, ["sql@1", "math"], max_error=0.5)
        for codec in ("rd", "fixed"):
            bank.encode("math", max_error=0.5, codec=codec)
        bank.merge("average", {"sql@1": 1.0, "math": 3.0}, name="mix", rank=3)
        for ref in ("sql@1", "math@1"):
            keep(bank.rooms, grams(bank.find(ref)), [bank.find(ref)], "gram")
        bank.merge("regmean", {"sql@1": 1.0, "math": 1.0}, name="learned", rank=3)
        bank.compact(["law"], level="bounded", basis="half", drop_exact=True)
        bank.gc(grace=0.0)
    shrink(place)


def grams(version: Version) -> Statistics:
    """Gram matrices of whole numbers, one of them for two modules: the same on every machine."""
    steps = torch.arange(25.0).view(5, 5) % 7
    tensors = {"first": steps.T @ steps + 25 * torch.eye(5), "second": torch.eye(5) * version.number * 3}
    modules = {"layer.0.query": "first", "layer.0.value": "first", "layer.1.query": "second"}
    return Statistics("gram", version.content, tensors, modules, {"tokens": 5})


def shrink(place: Path) -> None:
    """Small pages, and nothing that is empty: the size of a page is the database's own business."""
    with contextlib.closing(sqlite3.connect(place / "catalog.db")) as other:
        other.executescript("PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM")
    for rest in ("catalog.db-journal", "catalog.db-wal", "catalog.db-shm"):
        (place / rest).unlink(missing_ok=True)
    for folder in ("staging", "backups"):
        (place / folder).rmdir()


def expected(place: Path) -> dict[str, Any]:
    """What is read from the bank, and the SHA-256 of each exported file."""
    with Bank.open(place, readonly=True) as bank, tempfile.TemporaryDirectory() as folder:
        exported = {}
        for version in bank.versions(where="level=original"):
            bank.export(version.ref, Path(folder) / version.ref)
            files = sorted((Path(folder) / version.ref).iterdir())
            exported[version.ref] = {file.name: sha256(file.read_bytes()).hexdigest() for file in files}
        found = {
            "versions": [asdict(version) for version in bank.versions()],
            "bases": [asdict(basis) for basis in bank.bases()],
            "members": [asdict(member) for name in (*BASES, COLLECTION) for member in bank.members(name)],
            "forms": [asdict(form) for form in bank.forms("math")],
            "settings": bank.basis_settings(COLLECTION),
            "decoded": {form.object: decoded(bank, form) for form in bank.forms("math") if form.codec != "rmm"},
            "aliases": [asdict(event) for event in bank.history("sql").events],
            "recipe": bank.recipe("mix"),
            "learned": bank.recipe("learned"),
            "artefacts": [asdict(artefact) for artefact in bank.artefacts()],
            "base_models": bank.base_models(),
            "exported": exported,
        }
        return json.loads(json.dumps(found, default=asdict))  # type: ignore[no-any-return]


def decoded(bank: Bank, form: Member) -> str:
    """SHA-256 of the float32 factors in a coded form, B then A, module by module: the same on every machine."""
    modules = bank.reconstruct(form.version, basis=form.basis, codec=form.codec).modules
    parts = [tensor.numpy().astype("<f4").tobytes() for _, factors in modules.items() for tensor in (factors.B, factors.A)]
    return sha256(b"".join(parts)).hexdigest()


@contextlib.contextmanager
def still_clock() -> Iterator[None]:
    """One time for every row, and one environment."""
    import adapterbank.ways.merge as merges

    with contextlib.ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("adapterbank.catalog.") and hasattr(module, "now"):
                stack.enter_context(patch.object(module, "now", lambda: TIME))
        stack.enter_context(patch.object(merges, "environment", lambda: {"python": "3", "torch": "2"}))
        yield


if __name__ == "__main__":
    shutil.rmtree(PLACE, ignore_errors=True)
    make(PLACE)
    EXPECTED.write_text(json.dumps(expected(PLACE), indent=1, sort_keys=True) + "\n")
