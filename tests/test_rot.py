"""Bytes that change on the disk: every single flipped bit is found by ``verify``, and nothing damaged is ever served."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import nn

from adapterbank import Bank
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.catalog import levels
from adapterbank.catalog.digests import PROTECTED
from adapterbank.errors import AdapterBankError, IntegrityError
from tests.adapters import write_adapter
from tests.cli.conftest import invoke
from tests.vault.conftest import damage

FLIPS_OF_AN_OBJECT, FLIPS_OF_THE_DATABASE = 30, 150
MODULES = {"layer.query": (12, 8), "layer.value": (12, 8)}
KINDS = (
    "config",
    "weights",
    "basis",
    "coefficients",
    "merge",
    "coded",
    "reference",
    "form",
    "form's reference",
    "fixed",
    "statistics",
    "learned",
)

Serve = Callable[[Bank, Path], object]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with three originals, one of them compacted, their basis, a merge of two, aliases, a version that is coded as
    differences to its parent, which is coded too, and a collection whose second form was coded against the first."""
    folder = tmp_path_factory.mktemp("rot")
    with Bank.open(folder / "bank", create=True) as bank:
        for seed in range(3):
            bank.register(write_adapter(folder / f"m{seed}", MODULES, rank=2, seed=seed), name=f"m{seed}", alias="prod")
        bank.build_basis("b", ["m0", "m1", "m2"], components=2, force=True)
        bank.merge("average", {"m1": 1.0, "m2": 2.0}, name="mix", rank=2)
        bank.compact(["m0"], level="bounded", drop_exact=True)
        parent = bank.register(write_adapter(folder / "c1", MODULES, rank=16, seed=9), name="chain")
        bank.register(nearly(folder / "c1", folder / "c2"), name="chain", parent=parent.ref)
        assert bank.compact(["chain@2", "chain@1"], level="exact").coded["chain@2"].reference == "chain@1"
        bank.build_basis("k", ["chain@1", "chain@2"], max_error=0.5)
        assert [member.references for member in bank.members("k")] == [(), ("chain@1",)]
        bank.encode("m2", quality="small", codec="fixed")
        bank.merge("regmean", {"m1": 1.0, "m2": 1.0}, name="weighted", using=grams(bank))
        bank.calibrate("adamerging", ["m1", "m2"], setting(["m1@1", "m2@1"]), options={"steps": 1})
        assert bank.verify().problems == ()
    return folder / "bank"


def setting(refs: list[str]) -> Setting:
    """The modules of these adapters as a model, and four inputs for each."""
    linears = nn.ModuleDict({"query": nn.Linear(8, 12), "value": nn.Linear(8, 12)})
    model = nn.ModuleDict({"layer": linears})
    draw = torch.Generator().manual_seed(1)
    data = {ref: [torch.randn(4, 8, generator=draw)] for ref in refs}
    return Setting(model, {ref: Task(batches, lambda m, x: sum_of(m, x)) for ref, batches in data.items()})


def sum_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.get_submodule("layer.query")(x) + model.get_submodule("layer.value")(x)
    return found


def grams(bank: Bank) -> list[str]:
    """The references of Gram matrices of m1 and m2."""
    return [made.ref for made in bank.calibrate("gram", ["m1", "m2"], setting(["m1@1", "m2@1"]))]


def nearly(source: Path, target: Path) -> Path:
    """A copy of an adapter with the lowest bit of each weight flipped."""
    shutil.copytree(source, target)
    data = bytearray((source / "adapter_model.safetensors").read_bytes())
    for at in range(8 + int.from_bytes(data[:8], "little"), len(data), 4):
        data[at] ^= 1
    (target / "adapter_model.safetensors").write_bytes(data)
    return target


@pytest.fixture
def bank(place: Path) -> Iterator[Bank]:
    with Bank.open(place) as opened:
        yield opened


def object_of(bank: Bank, kind: str) -> str:
    """The digest of an object of this kind."""
    return {
        "config": bank.find("m1").config,
        "weights": bank.find("m1").weights,
        "basis": bank.basis("b").object,
        "coefficients": bank.forms("m0")[0].object,
        "merge": bank.find("mix").weights,
        "coded": coded(bank, "chain@2"),
        "reference": coded(bank, "chain@1"),
        "form": bank.members("k")[1].object,
        "form's reference": bank.members("k")[0].object,
        "fixed": next(form.object for form in bank.forms("m2") if form.codec == "fixed"),
        "statistics": bank.artefacts(kind="gram", ref="m1")[0].object,
        "learned": bank.artefacts(kind="adamerging")[0].object,
    }[kind]


def coded(bank: Bank, ref: str) -> str:
    with bank.rooms.catalog.reading() as tx:
        form = levels.exact_form(tx, bank.find(ref))
    assert form is not None
    return form.object


def serving(kind: str) -> list[Serve]:
    """Everything that would hand out something made from the object."""
    exports: dict[str, Serve] = {
        "m0": lambda bank, out: bank.export("m0", out, bounded=True),
        "m1": lambda bank, out: bank.export("m1", out),
        "mix": lambda bank, out: bank.export("mix", out),
        "c1": lambda bank, out: bank.export("chain@1", out),
        "c2": lambda bank, out: bank.export("chain@2", out),
    }
    reconstruct: Serve = lambda bank, out: bank.reconstruct("m0")  # noqa: E731
    replay: Serve = lambda bank, out: bank.replay("mix")  # noqa: E731
    return {
        "config": [exports["m1"], replay],
        "weights": [exports["m1"], replay, lambda bank, out: bank.build_basis("c", ["m1", "m2"], components=1, force=True)],
        "basis": [
            reconstruct,
            exports["m0"],
            lambda bank, out: bank.serving(basis="b", backend="reference"),
            lambda bank, out: bank.add_to_basis("b", "mix", force=True),
        ],
        "coefficients": [
            reconstruct,
            exports["m0"],
            lambda bank, out: bank.serving(basis="b", backend="reference").factors("m0"),
            lambda bank, out: bank.materialize(["m0"], out),
        ],
        "merge": [exports["mix"]],
        "coded": [exports["c2"], lambda bank, out: bank.compact(["chain@2"], level="original")],
        "reference": [
            exports["c1"],
            exports["c2"],
            lambda bank, out: bank.merge("average", {"chain@2": 1.0}, name="x", rank=2),
        ],
        "form": [
            lambda bank, out: bank.write_reconstruction("chain@2", out, basis="k"),
            lambda bank, out: bank.form_modules(bank.members("k")[1]),
            lambda bank, out: bank.compact(["chain@2"], basis="k", drop_exact=True),
        ],
        "form's reference": [
            lambda bank, out: bank.write_reconstruction("chain@1", out, basis="k"),
            lambda bank, out: bank.write_reconstruction("chain@2", out, basis="k"),
            lambda bank, out: bank.add_to_basis("k", "m1", force=True),
        ],
        "fixed": [
            lambda bank, out: bank.write_reconstruction("m2", out, codec="fixed"),
            lambda bank, out: bank.form_modules(next(form for form in bank.forms("m2") if form.codec == "fixed")),
            lambda bank, out: bank.serving(["m2"], form="fixed", backend="reference").factors("m2"),
        ],
        "statistics": [
            lambda bank, out: bank.replay("weighted"),
            lambda bank, out: bank.about_artefact(bank.artefacts(kind="gram", ref="m1")[0].ref),
        ],
        "learned": [
            lambda bank, out: bank.coefficients(bank.artefacts(kind="adamerging")[0].ref),
            lambda bank, out: bank.merge_coefficients(bank.artefacts(kind="adamerging")[0].ref, name="y"),
        ],
    }[kind]


def assert_never_served(bank: Bank, kind: str, out: Path) -> None:
    problems = bank.verify().problems
    assert [(problem.code, problem.where) for problem in problems] == [("object_damaged", object_of(bank, kind))]
    for serve in serving(kind):
        with pytest.raises(IntegrityError) as told:
            serve(bank, out)
        assert told.value.exit_code == 5
        assert not out.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_each_flipped_bit_of_an_object_is_found_and_not_served(bank: Bank, kind: str, tmp_path: Path) -> None:
    path, rng = bank.rooms.vault.path(object_of(bank, kind)), random.Random(kind)
    assert path.suffix == (".z1" if kind == "config" else "")  # compressed and plain objects: both are here
    sound = path.read_bytes()
    try:
        for _ in range(FLIPS_OF_AN_OBJECT):
            damage(path, flipped(sound, rng))
            assert_never_served(bank, kind, tmp_path / "out")
    finally:
        damage(path, sound)
    assert bank.verify().problems == ()


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_cut_or_grown_is_found_and_not_served(bank: Bank, kind: str, tmp_path: Path) -> None:
    path = bank.rooms.vault.path(object_of(bank, kind))
    sound = path.read_bytes()
    try:
        for cut in (0, 1, 7, 8, len(sound) // 2, len(sound) - 1):
            damage(path, sound[:cut])
            assert_never_served(bank, kind, tmp_path / "out")
        for more in (b"\0", b"\0" * 4096, sound):
            damage(path, sound + more)
            assert_never_served(bank, kind, tmp_path / "out")
    finally:
        damage(path, sound)


def test_the_command_line_exits_with_5(place: Path, tmp_path: Path) -> None:
    commands = {
        "weights": [("verify",), ("verify", "m1"), ("export", "m1", tmp_path / "a"), ("replay", "mix")],
        "basis": [("verify",), ("reconstruct", "m0", tmp_path / "b"), ("export", "--bounded", "m0", tmp_path / "c")],
    }
    for kind, words in commands.items():
        with Bank.open(place) as bank:
            path = bank.rooms.vault.path(object_of(bank, kind))
        sound = path.read_bytes()
        try:
            damage(path, flipped(sound, random.Random(1)))
            for command in words:
                assert invoke("--bank", place, *command).code == 5, command
        finally:
            damage(path, sound)
    assert list(tmp_path.iterdir()) == []
    assert invoke("--bank", place, "verify").code == 0


def test_registering_the_original_again_repairs_an_object(bank: Bank, place: Path) -> None:
    path = bank.rooms.vault.path(object_of(bank, "weights"))
    damage(path, flipped(path.read_bytes(), random.Random(2)))
    assert bank.register(place.parent / "m1", name="m1").status == "unchanged"
    assert bank.verify().problems == ()


def test_each_flipped_bit_of_the_database_is_found_or_changes_nothing(place: Path, tmp_path: Path) -> None:
    """What is served is the truth or an error; a changed protected row, or an error, is told by ``verify``."""
    file, rng = place / "catalog.db", random.Random(3)
    sound = file.read_bytes()
    truth, rows = served(place, tmp_path / "truth"), protected(file)
    assert isinstance(truth, list) and rows is not None
    changed = 0
    try:
        filled = [at for at, byte in enumerate(sound) if byte]  # most of a small database is empty pages
        for number in range(FLIPS_OF_THE_DATABASE):
            file.write_bytes(flipped(sound, rng, filled))
            now, sane = served(place, tmp_path / str(number)), protected(file) == rows
            assert isinstance(now, AdapterBankError) or now == truth
            if not sane or now != truth:
                changed += 1
                assert damage_is_told(place), f"flip {number}: {now}"
    finally:
        file.write_bytes(sound)
    assert changed > FLIPS_OF_THE_DATABASE // 20, "hardly a flip hit anything: this would show nothing"


@pytest.mark.parametrize("cut", [0, 1, 99, 512, 4095, 4096, -4096, -1])
def test_a_database_that_was_cut_is_told(place: Path, tmp_path: Path, cut: int) -> None:
    file = place / "catalog.db"
    sound, truth, rows = file.read_bytes(), served(place, tmp_path / "truth"), protected(file)
    try:
        file.write_bytes(sound[:cut])
        now = served(place, tmp_path / "out")
        assert isinstance(now, AdapterBankError) or now == truth
        assert damage_is_told(place) or (now == truth and protected(file) == rows and cut == -1)  # SQLite adds a zero
    finally:
        file.write_bytes(sound)


def flipped(data: bytes, rng: random.Random, among: Sequence[int] | None = None) -> bytes:
    """``data`` with one random bit changed, of any byte or of those ``among`` which it is looked for."""
    at = rng.choice(range(len(data)) if among is None else among)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def served(place: Path, out: Path) -> list[object] | AdapterBankError:
    """What a user gets from the bank: versions, exported bytes, factors, a recipe; or the error that stopped it."""
    try:
        with Bank.open(place, readonly=True) as bank:
            found: list[object] = []
            for ref in ("m0@prod", "m1@1", "mix", "chain@2"):
                version = bank.find(ref)
                bank.export(ref, out / version.name, bounded=True)
                files = sorted((out / version.name).glob("adapter_*"))
                found += [version, [sha256(path.read_bytes()).hexdigest() for path in files]]
            factors = bank.reconstruct("m0").modules.values()
            found += [[(part.A.numpy().tobytes(), part.B.numpy().tobytes()) for part in factors], bank.recipe("mix")]
            return found
    except AdapterBankError as error:
        return error


def protected(file: Path) -> object:
    """The rows of all protected tables as they are in the file, read past all of our code; None if they cannot be."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as other:
            other.text_factory = bytes
            fields = {table: ", ".join(columns) for table, columns in PROTECTED.items()}
            return {table: sorted(map(repr, other.execute(f"SELECT {fields[table]} FROM {table}"))) for table in PROTECTED}
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def damage_is_told(place: Path) -> bool:
    try:
        with Bank.open(place, readonly=True) as bank:
            return bank.verify().problems != ()
    except AdapterBankError:
        return True


def test_reconstruction_is_exact_enough_to_compare(bank: Bank) -> None:
    """The comparison above means something: reconstructing twice gives the same bits."""
    first, second = bank.reconstruct("m0").modules, bank.reconstruct("m0").modules
    assert all(torch.equal(first[name].A, second[name].A) and torch.equal(first[name].B, second[name].B) for name in first)
