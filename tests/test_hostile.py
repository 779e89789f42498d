"""Hostile directories through the command line: exit code 7 with the code of what is wrong, and no trace anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapterbank import Bank
from adapterbank.catalog import tables
from adapterbank.errors import RefusedInputError
from adapterbank.ways import register
from tests.adapters import safetensors_bytes, write_adapter
from tests.cli.conftest import Ran, invoke
from tests.peft_format.hostile import cases

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A, B = (f"base_model.model.layer.lora_{letter}.weight" for letter in "AB")
CORPUS = cases()
PAIR = {A: np.ones((2, 3)), B: np.ones((4, 2))}

Spoil = Callable[[Path], None]


class Payload:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A bank with one adapter, a good directory to be spoiled, and files outside that nobody may touch."""
    with Bank.open(tmp_path / "bank", create=True) as bank:
        bank.register(write_adapter(tmp_path / "old"), name="old", alias="prod")
    write_adapter(tmp_path / "new", {"layer": (4, 3)}, rank=2, seed=1)
    (tmp_path / "secret").write_text("password")
    return tmp_path


def traces(world: Path) -> dict[str, object]:
    """Every file and folder below ``world`` with its bytes and mode, and the rows of every table of the bank."""
    found: dict[str, object] = {}
    for path in sorted(world.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else None
        found[str(path.relative_to(world))] = (status.st_mode, content)
    with closing(sqlite3.connect(f"file:{world / 'bank' / 'catalog.db'}?mode=ro", uri=True)) as other:
        for name in tables.metadata.tables:
            found[f"rows of {name}"] = other.execute(f"SELECT * FROM {name}").fetchall()
    return found


@contextmanager
def no_trace(world: Path, but: str | None = None) -> Iterator[None]:
    before = traces(world)
    yield
    after = traces(world)
    assert [key for key in before | after if after.get(key) != before.get(key) and key != but] == []


def attempt(world: Path, *words: object) -> Ran:
    return invoke("--bank", world / "bank", "--json", "register", world / "new", *words)


def codes(ran: Ran) -> set[str]:
    return {problem["code"] for problem in ran.error["details"]}


def assert_refused(world: Path, code: str) -> None:
    with no_trace(world):
        ran = attempt(world, "--name", "new")
    assert ran.code == 7, ran.err
    assert ran.out == ""
    assert ran.error["code"] == "refused_input"
    assert code in codes(ran)


def weights(data: bytes) -> Spoil:
    return lambda folder: (folder / WEIGHTS).write_bytes(data) and None


def config(**fields: object) -> Spoil:
    def spoil(folder: Path) -> None:
        known = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(known | fields))

    return spoil


def replaced(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def nested(folder: Path) -> None:
    (folder / "default").mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).rename(folder / "default" / name)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(folder.parent / "executed")))


def truncated(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-10])


def renamed(name: str) -> Spoil:
    return weights(
        safetensors_bytes(
            {f"base_model.model.{name}.lora_{letter}.weight": PAIR[key] for letter, key in zip("AB", (A, B), strict=True)}
        )
    )


DIRECTORIES: dict[str, tuple[str, Spoil]] = {
    "weights are a link to a good file": ("symlink", replaced(WEIGHTS, lambda path: path.symlink_to("../old/" + WEIGHTS))),
    "weights are a link to a secret": ("symlink", replaced(WEIGHTS, lambda path: path.symlink_to("../secret"))),
    "configuration is a link to a secret": ("symlink", replaced(CONFIG, lambda path: path.symlink_to("../secret"))),
    "configuration is a dangling link": ("symlink", replaced(CONFIG, lambda path: path.symlink_to("nowhere"))),
    "weights are a pipe": ("not_a_file", replaced(WEIGHTS, os.mkfifo)),
    "configuration is a pipe": ("not_a_file", replaced(CONFIG, os.mkfifo)),
    "weights are a folder": ("not_a_file", replaced(WEIGHTS, Path.mkdir)),
    "no configuration": ("no_config", lambda folder: (folder / CONFIG).unlink()),
    "no weights": ("no_weights", lambda folder: (folder / WEIGHTS).unlink()),
    "nested": ("nested", nested),
    "a pickle": ("pickle", pickled),
    "weights cut short": ("offsets_range", truncated),
    "a header of 2^62 bytes": ("header_too_large", weights((1 << 62).to_bytes(8, "little") + b"{}")),
    "a tensor that climbs": ("tensor_name", renamed("../../../../secret")),
    "a tensor with a path": ("tensor_name", renamed("/etc/passwd")),
    "NaN": ("not_finite", weights(safetensors_bytes(PAIR | {A: np.full((2, 3), np.nan)}))),
    "infinity": ("not_finite", weights(safetensors_bytes(PAIR | {B: np.full((4, 2), np.inf)}))),
    "a rank that is not the configuration's": ("rank_mismatch", config(r=3)),
    "a rank of a billion": ("config_field", config(r=10**9)),
    "a pattern that takes for ever": ("pattern_too_costly", config(rank_pattern={"a?" * 40 + "a" * 40: 2})),
    "a configuration of 100 KB": ("config_too_large", config(note="x" * 100_000)),
    "another kind of adapter": ("peft_type", config(peft_type="IA3")),
}


@pytest.mark.parametrize(("code", "spoil"), DIRECTORIES.values(), ids=DIRECTORIES)
def test_hostile_directories_leave_no_trace(world: Path, code: str, spoil: Spoil) -> None:
    spoil(world / "new")
    assert_refused(world, code)


def test_the_corpus_of_hostile_files_leaves_no_trace(world: Path) -> None:
    """Every hostile header and configuration, in bulk: one summary, each refused by its code, the good one registered."""
    for number, (_, _, settings, data) in enumerate(CORPUS):
        folder = world / "all" / f"h{number}"
        folder.mkdir(parents=True)
        (folder / CONFIG).write_bytes(settings)
        (folder / WEIGHTS).write_bytes(data)
    with no_trace(world):
        ran = invoke("--bank", world / "bank", "--json", "register", "--recursive", world / "all", "--name-from", "dir")
    assert ran.code == 7
    outcomes = ran.json["outcomes"]
    assert [outcome["status"] for outcome in outcomes] == ["refused"] * len(CORPUS)
    assert {outcome["code"] for outcome in outcomes} == {"refused_input"}


def test_a_pickle_is_never_loaded(world: Path) -> None:
    pickled(world / "new")
    attempt(world, "--name", "new")
    assert not (world / "executed").exists()
    pickle.loads((world / "new" / "adapter_model.bin").read_bytes())
    assert (world / "executed").exists(), "the payload is harmless: this would show nothing"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_a_device_is_not_read(world: Path) -> None:
    (world / "new" / WEIGHTS).unlink()
    try:
        os.mknod(world / "new" / WEIGHTS, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero never ends
    except OSError as reason:
        pytest.skip(f"a device cannot be made here: {reason}")
    assert_refused(world, "not_a_file")


@pytest.mark.parametrize("name", ["../new", "a/b", "/etc/passwd", "..", ".", "", "a\0b", "a\nb", "é", "x" * 200, "-rf", "a@1"])
def test_hostile_names_leave_no_trace(world: Path, name: str) -> None:
    with no_trace(world):
        ran = attempt(world, f"--name={name}")
    assert ran.code == 2, ran.err


@pytest.mark.parametrize("alias", ["../x", "1", "a/b", ""])
def test_hostile_aliases_leave_no_trace(world: Path, alias: str) -> None:
    with no_trace(world):
        ran = attempt(world, "--name=new", f"--alias={alias}")
    assert ran.code == 2, ran.err


def test_a_file_that_shrinks_while_it_is_read_leaves_no_trace(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length was looked at before it was copied."""
    opened = register.open_directory

    def open_and_cut(path: Path) -> object:
        source = opened(path)
        os.truncate(path / WEIGHTS, 40)
        return source

    monkeypatch.setattr(register, "open_directory", open_and_cut)
    told = pytest.raises(RefusedInputError, match="changed while it was read")
    with no_trace(world, but=f"new/{WEIGHTS}"), Bank.open(world / "bank") as bank, told:
        bank.register(world / "new", name="new")


def test_a_good_directory_is_registered(world: Path) -> None:
    """The directory that the others were made from is good, and a registration leaves traces that would be seen."""
    before = traces(world)
    assert attempt(world, "--name", "new").code == 0
    assert traces(world) != before
    shutil.rmtree(world / "new")
    assert invoke("--bank", world / "bank", "export", "new", world / "out").code == 0
