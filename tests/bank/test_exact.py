"""The exact level through the façade: fewer bytes, the same file; every way works from it, and nothing is lost on the way."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from adapterbank import Bank
from adapterbank.catalog import edges, levels, tables
from adapterbank.codecs import exact
from adapterbank.errors import (
    BoundedOnlyError,
    IntegrityError,
    InUseError,
    NotFoundError,
    RefusedInputError,
    StorageError,
    UsageError,
)
from adapterbank.vault import durable
from tests.bank.state import objects, state
from tests.bank.variants import with_dora, with_extras
from tests.catalog.processes import together
from tests.peft_format.features import FEATURES
from tests.vault.conftest import damage, fork, wait
from tests.vault.test_faults import CountingOs

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "minilm" / "adapters"


def assert_exported(bank: Bank, ref: str, source: Path, out: Path) -> None:
    done = bank.export(ref, out)
    assert (done.exact, done.error) == (True, 0.0)
    assert all((out / name).read_bytes() == (source / name).read_bytes() for name in (CONFIG, WEIGHTS))


def change(folder: Path, target: Path, step: float, seed: int = 1) -> Path:
    """A copy of ``folder`` as one more round of training leaves it: every weight off by ``step`` of a weight's size."""
    shutil.copytree(folder, target)
    data = bytearray((folder / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    values = np.frombuffer(data, "<f4", offset=start)
    values += (step * values.std() * np.random.default_rng(seed).standard_normal(len(values))).astype("<f4")
    (target / WEIGHTS).write_bytes(data)
    return target


@pytest.fixture
def chain(bank, make):
    """Three versions of one adapter, each a little off its parent, and their directories."""
    folders = [make("v1", modules={"layer.query": (64, 48)}, rank=32)]
    for number in (2, 3):
        folders.append(change(folders[-1], folders[-1].parent / f"v{number}", 0.01, seed=number))
    for number, folder in enumerate(folders, start=1):
        bank.register(folder, name="sql", parent=f"sql@{number - 1}" if number > 1 else None)
    return folders


def test_the_bytes_are_fewer_and_come_back(bank, place, add, tmp_path):
    folder = add("sql", rank=32)
    before, version, held = state(place), bank.find("sql"), objects(place)
    done = bank.compact(["sql"], level="exact")
    form = done.coded["sql@1"]
    assert (done.refs, done.kept, done.level, form.reference) == (("sql@1",), (), "exact", None)
    assert objects(place) == held - {version.weights} | {form.object}
    assert form.bytes == bank.rooms.vault.size(form.object) <= 0.9 * (folder / WEIGHTS).stat().st_size
    assert done.bytes_freed == (folder / WEIGHTS).stat().st_size - form.bytes
    now = bank.find("sql")
    assert now.level == "exact" and (now.weights, now.files, now.id) == (version.weights, version.files, version.id)
    assert [each.ref for each in bank.versions(where="level=exact")] == ["sql@1"]
    assert bank.verify().problems == bank.verify(["sql"]).problems == () and bank.gc(grace=0).objects == ()
    assert_exported(bank, "sql", folder, tmp_path / "out")
    back = bank.compact(["sql"], level="original")
    assert (back.refs, back.bytes_freed) == (("sql@1",), -done.bytes_freed)
    assert state(place)["files"] == before["files"] and bank.find("sql") == version
    assert bank.verify().problems == ()


def test_every_example_comes_back(bank, tmp_path):
    for folder in EXAMPLES.iterdir():
        bank.register(folder, name=folder.name)
    names = [folder.name for folder in EXAMPLES.iterdir()]
    done = bank.compact(names, level="exact")
    assert len(done.refs) == len(names) == 8
    assert sum(form.bytes for form in done.coded.values()) < 0.68 * sum(bank.find(name).bytes for name in names)
    for name in names:
        assert_exported(bank, name, EXAMPLES / name, tmp_path / "out" / name)


def test_every_feature_that_registers_comes_back(bank, tmp_path):
    """DoRA, embeddings, convolutions, experts, patterns …: coded if that is smaller, and the same bytes in any case."""
    taken = []
    for code in FEATURES:
        folder = tmp_path / "in" / code
        folder.mkdir(parents=True)
        for name, data in FEATURES[code]().items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        try:
            bank.register(folder, name=code, base_model="tiny", force=True)
        except RefusedInputError:
            continue
        taken.append(code)
    done = bank.compact(taken, level="exact")
    assert len(taken) > 20 and len(done.refs) > 10
    assert sorted(done.refs + done.kept) == sorted(f"{code}@1" for code in taken)
    for code in taken:
        assert_exported(bank, code, tmp_path / "in" / code, tmp_path / "out" / code)
    assert bank.verify().problems == ()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_dtypes_patterns_and_what_is_carried_come_back(bank, make, tmp_path, dtype):
    pattern = {"encoder.layer.0.attention.query": 9}
    folders = [make("plain", rank=32, dtype=dtype, rank_pattern=pattern), with_dora(make("dora", rank=32, dtype=dtype, seed=1))]
    folders.append(with_extras(make("extras", rank=32, dtype=dtype, seed=2)))
    for folder in folders:
        bank.register(folder, name=folder.name)
    assert len(bank.compact([folder.name for folder in folders], level="exact").refs) == 3
    for folder in folders:
        assert_exported(bank, folder.name, folder, tmp_path / "out" / folder.name)


def test_what_would_not_be_smaller_stays(bank, place, make):
    folder = make("noise", modules={"layer": (1, 1)}, rank=1)
    bank.register(folder, name="noise")
    before = state(place)
    done = bank.compact(["noise"], level="exact")
    assert (done.refs, done.kept, done.coded, done.bytes_freed) == ((), ("noise@1",), {}, 0)
    assert state(place) == before and bank.find("noise").level == "original"


def test_a_dry_run_says_the_same_and_changes_nothing(bank, place, chain):
    before = state(place)
    tried = bank.compact(["sql@1", "sql@2"], level="exact", dry_run=True)
    assert state(place) == before and tried.dry_run
    done = bank.compact(["sql@1", "sql@2"], level="exact")
    assert (tried.refs, tried.bytes_freed, tried.coded) == (done.refs, done.bytes_freed, done.coded)
    held = state(place)
    assert bank.compact(["sql@1"], level="original", dry_run=True).refs == ("sql@1",) and state(place) == held


def test_twice_is_once_and_what_is_lossless_drops_nothing(bank, place, add):
    add("sql", rank=32)
    seen = []
    assert bank.compact(["sql", "sql@1"], level="exact", progress=lambda *at: seen.append(at)).refs == ("sql@1",)
    assert seen == [(bank.find("sql").bytes,) * 2]
    before = state(place)
    assert bank.compact(["sql"], level="exact").refs == () and state(place) == before
    for given in ({"drop_exact": True}, {"basis": "b1"}):
        with pytest.raises(UsageError, match="level exact keeps the exact bytes"):
            bank.compact(["sql"], level="exact", **given)
    assert state(place) == before


def test_every_way_gives_the_same_from_coded_bytes(bank, add, tmp_path):
    """A basis, a merge, a projection and a load from exact versions: bit for bit those from the originals."""
    names = ["sql", "math", "law"]
    for seed, name in enumerate(names):
        add(name, seed=seed, rank=8)

    def products(suffix: str) -> list[object]:
        basis = bank.build_basis(f"b{suffix}", names[:2], components=1, force=True)
        member = bank.add_to_basis(f"b{suffix}", "law", force=True)
        merged = bank.merge("ties", {"sql": 1.0, "law": 0.5}, name=f"m{suffix}", options={"density": 0.5})
        factors = bank.reconstruct("law", basis=f"b{suffix}").modules
        return [basis.object, member.error, merged.weights, {name: f.A.tolist() for name, f in factors.items()}]

    before = products("1")
    assert len(bank.compact(names, level="exact").refs) == 3
    assert products("2") == before and bank.replay("m1").outcome == "bits"


def test_a_version_is_coded_as_differences_to_its_parent(bank, place, chain, tmp_path):
    done = bank.compact(["sql@2"], level="exact")
    form = done.coded["sql@2"]
    assert form.reference == "sql@1" and form.bytes < 0.8 * (chain[1] / WEIGHTS).stat().st_size
    assert [(edge.dependent, edge.kind) for edge in bank.dependents("sql@1")] == [("version sql@2", "difference")]
    assert_exported(bank, "sql@2", chain[1], tmp_path / "out")
    held = {bank.find("sql@2").config, form.object, bank.find("sql@1").weights}
    assert bank.verify(["sql@2"]).objects == len(held) and bank.verify().problems == ()
    before = state(place)
    with pytest.raises(InUseError, match=r"version sql@1 is needed by version sql@2") as told:
        bank.remove(["sql@1"])
    assert "compact" in told.value.hint
    bank.build_basis("b", ["sql@1", "sql@2"], components=1, force=True)
    with pytest.raises(InUseError, match=r"sql@1 keeps its exact bytes: sql@2 is coded as differences") as told:
        bank.compact(["sql@1"], drop_exact=True)
    assert told.value.details[0]["dependent"] == "version sql@2"
    bank.remove_basis("b")
    assert state(place)["files"] == before["files"]
    bank.remove(["sql@1", "sql@2"])
    assert [version.ref for version in bank.versions()] == ["sql@3"]


def test_no_chain_is_ever_formed(bank, chain, tmp_path):
    """sql@3's parent is coded as differences, so its grandparent serves; what serves stays self-contained when coded."""
    forms = {ref: bank.compact([ref], level="exact").coded[ref].reference for ref in ("sql@2", "sql@3", "sql@1")}
    assert forms == {"sql@2": "sql@1", "sql@3": "sql@1", "sql@1": None}
    for number, folder in enumerate(chain, start=1):
        assert_exported(bank, f"sql@{number}", folder, tmp_path / str(number))
    assert bank.verify().problems == ()
    bank.compact(["sql@1"], level="original")
    assert_exported(bank, "sql@3", chain[2], tmp_path / "again")
    assert bank.compact(["sql@2", "sql@3"], level="original").refs == ("sql@2", "sql@3")
    done = bank.compact(["sql@3", "sql@2"], level="exact")  # now sql@2 is sql@3's reference, and may have none of its own
    assert {ref: form.reference for ref, form in done.coded.items()} == {"sql@3": "sql@2", "sql@2": None}
    assert bank.verify().problems == ()


def test_an_unlike_parent_is_no_reference(bank, add, make):
    add("base", rank=32)
    bank.register(make("other", rank=32, seed=9), name="other", parent="base@1")
    assert bank.compact(["other"], level="exact").coded["other@1"].reference is None
    bank.remove(["base"])


def test_a_parent_that_was_removed_is_no_reference(bank, chain):
    bank.remove(["sql@1"])
    assert bank.compact(["sql@2"], level="exact").coded["sql@2"].reference is None


def test_from_exact_to_bounded_and_not_back(bank, place, chain, tmp_path):
    bank.build_basis("b", ["sql@1", "sql@2"], components=1, force=True)
    coded = bank.compact(["sql@1", "sql@2"], level="exact").coded
    assert coded["sql@2"].reference == "sql@1"
    done = bank.compact(["sql@1", "sql@2"], drop_exact=True)  # in whatever order they are named
    assert (done.refs, done.level) == (("sql@1", "sql@2"), "bounded")
    assert done.bytes_freed == sum(form.bytes for form in coded.values())
    assert not {form.object for form in coded.values()} & objects(place)
    before = state(place)
    for level in ("exact", "original"):
        with pytest.raises(BoundedOnlyError, match="sql@1"):
            bank.compact(["sql@3", "sql@1"], level=level)
    assert state(place) == before
    assert bank.register(chain[1], name="sql").status == "restored"
    assert_exported(bank, "sql@2", chain[1], tmp_path / "out")


def test_registering_it_again_changes_nothing_or_repairs(bank, place, chain, tmp_path):
    coded = bank.compact(["sql@1", "sql@2"], level="exact").coded
    before = state(place)
    assert [bank.register(folder, name="sql").status for folder in chain[:2]] == ["unchanged", "unchanged"]
    assert state(place) == before and bank.gc(grace=0).objects == ()
    for number, ref in ((2, "sql@2"), (1, "sql@1")):
        damage(bank.rooms.vault.path(coded[ref].object), b"rot")
        assert bank.register(chain[number - 1], name="sql").status == "restored"
        assert_exported(bank, ref, chain[number - 1], tmp_path / str(number))
    assert bank.verify().problems == ()


def test_damage_is_told_and_nothing_made_from_it_is_served(bank, chain, tmp_path):
    bank.compact(["sql@2"], level="exact")
    path = bank.rooms.vault.path(bank.find("sql@1").weights)  # of the reference
    sound = path.read_bytes()
    damage(path, sound[:-1] + b"\x55")
    assert [problem.where for problem in bank.verify().problems] == [bank.find("sql@1").weights]
    for serve in (
        lambda: bank.export("sql@2", tmp_path / "out"),
        lambda: bank.compact(["sql@2"], level="original"),
        lambda: bank.build_basis("b", ["sql@2", "sql@3"], components=1, force=True),
    ):
        with pytest.raises(IntegrityError):
            serve()
    assert not (tmp_path / "out").exists() and bank.find("sql@2").level == "exact"
    damage(path, sound)
    assert bank.verify().problems == ()


def test_a_coded_object_of_another_file_is_found_by_verify(bank, add, tmp_path):
    for seed, name in enumerate(("sql", "law")):
        add(name, seed=seed, rank=32)
    wrong = exact.encode((tmp_path / "in" / "law" / WEIGHTS).read_bytes())
    with bank.rooms.vault.holding(), bank.rooms.catalog.writing() as tx:
        bank.rooms.vault.put_bytes(wrong)
        form = levels.ExactForm(sha256(wrong).hexdigest(), len(wrong))
        levels.set_level(tx, bank.find("sql"), "exact", form)
    assert [(problem.code, problem.where) for problem in bank.verify().problems] == [("exact_form", "sql@1")]
    with pytest.raises(IntegrityError, match="expected"):
        bank.export("sql", tmp_path / "out")


def test_rows_that_contradict_each_other_are_found_by_verify(bank, chain, tmp_path):
    """An exact version without its object, and a chain of differences: both sealed as good rows are."""
    bank.compact(["sql@2", "sql@3"], level="exact")
    first, second = bank.find("sql@1"), bank.find("sql@2")
    with bank.rooms.catalog.writing() as tx:
        edges.add(tx, first.id, bank.find("sql@3").id, edges.DIFFERENCE)
    assert {problem.code for problem in bank.verify().problems} == {"edge", "exact_form"}
    with pytest.raises(IntegrityError, match="no bytes of its own"):
        bank.export("sql@2", tmp_path / "out")
    with bank.rooms.catalog.writing() as tx:
        tx.execute(tables.edges.delete().where(tables.edges.c.dependent == first.id, tables.edges.c.kind == edges.DIFFERENCE))
        tx.execute(tables.edges.delete().where(tables.edges.c.dependent == second.id, tables.edges.c.kind == edges.EXACT))
    assert [problem.code for problem in bank.verify().problems] == ["edge"]
    with pytest.raises(NotFoundError):
        bank.export("sql@2", tmp_path / "out")
    assert bank.register(chain[1], name="sql").status == "restored"
    assert bank.verify().problems == ()


def test_an_object_that_does_not_decode_is_never_adopted(bank, place, add, monkeypatch):
    """Inside the transaction the staged bytes are decoded: a codec that lies loses nothing."""
    from adapterbank.ways import recode

    add("sql", rank=32)
    other = exact.encode(b"something else" * 100)
    before = state(place)
    for wrong in (other, exact.encode(other)[:-40]):
        monkeypatch.setattr(recode.exact, "pieces", lambda *_, wrong=wrong: iter([wrong]))
        for dry_run in (False, True):
            with pytest.raises(IntegrityError):
                bank.compact(["sql"], level="exact", dry_run=dry_run)
            assert state(place) == before


def test_the_bytes_that_another_name_needs_stay(bank, place, chain):
    bank.register(chain[0], name="twin")
    held = objects(place)
    coded = bank.compact(["sql@1"], level="exact").coded["sql@1"]
    assert held <= objects(place)
    assert bank.compact(["twin"], level="exact").coded["twin@1"] == coded
    assert bank.find("sql@1").weights not in objects(place) and bank.verify().problems == ()


def test_a_bank_opened_read_only_gives_the_bytes(bank, place, add, tmp_path):
    folder = add("sql", rank=32)
    bank.compact(["sql"], level="exact")
    with Bank.open(place, readonly=True) as reader:
        assert_exported(reader, "sql", folder, tmp_path / "out")
        with pytest.raises(StorageError):
            reader.compact(["sql"], level="original")


def test_a_version_found_before_it_was_coded_is_read_all_the_same(bank, add):
    """Whoever holds an old value of the version meets the level that it has by now."""
    from adapterbank.ways.rooms import weights_of

    folder = add("sql", rank=32)
    original = bank.find("sql")
    bank.compact(["sql"], level="exact")
    coded = bank.find("sql")
    with weights_of(bank.rooms, original) as (_, mapped):
        assert bytes(mapped.buffer) == (folder / WEIGHTS).read_bytes()
    bank.compact(["sql"], level="original")
    with weights_of(bank.rooms, coded) as (_, mapped):
        assert bytes(mapped.buffer) == (folder / WEIGHTS).read_bytes()


LEVELS = {"exact": "original", "original": "exact"}  # to what, from what


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_each_failing_call_leaves_either_level_and_no_trace(bank, place, chain, tmp_path, level, error):
    def fail() -> None:
        raise OSError(error, os.strerror(error))

    bank.compact(["sql@2"], level=LEVELS[level])
    for at in range(1, 100):
        copy = Path(shutil.copytree(place, tmp_path / str(at)))
        shim = CountingOs(at, fail)
        with Bank.open(copy) as tried, pytest.MonkeyPatch.context() as patched:
            patched.setattr(durable, "os", shim)
            try:
                tried.compact(["sql@2"], level=level)
            except StorageError as told:
                assert told.exit_code == 9
                assert tried.find("sql@2").level == LEVELS[level]
        assert list((copy / "staging").iterdir()) == []
        with Bank.open(copy) as tried:
            assert tried.verify().problems == ()
            assert_exported(tried, "sql@2", chain[1], tmp_path / f"out{at}")
            tried.compact(["sql@2"], level=level)
            assert tried.gc(grace=0).objects == () and tried.find("sql@2").level == level
        if len(shim.seen) < at:
            break
    assert {"open", "write", "fsync", "fchmod", "link"} <= set(shim.seen)


@pytest.mark.parametrize("level", LEVELS)
def test_a_kill_at_each_call_leaves_either_level(bank, place, chain, tmp_path, level):
    bank.compact(["sql@2"], level=LEVELS[level])
    status = -signal.SIGKILL
    for at in range(1, 100):
        copy = Path(shutil.copytree(place, tmp_path / str(at)))

        def work(copy: Path = copy, at: int = at) -> None:
            durable.os = CountingOs(at, lambda: os.kill(os.getpid(), signal.SIGKILL))
            with Bank.open(copy) as doomed:
                doomed.compact(["sql@2"], level=level)

        status = wait(fork(work))
        with Bank.open(copy) as tried:
            assert tried.find("sql@2").level in LEVELS
            assert tried.verify().problems == ()
            assert_exported(tried, "sql@2", chain[1], tmp_path / f"out{at}")
            tried.compact(["sql@2"], level=level)
            tried.gc(grace=0)
            assert len(objects(copy)) == len(objects(place))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0 and at > 8


def test_many_that_code_restore_and_read_at_once(bank, place, chain, tmp_path):
    torch.set_num_threads(1)

    def recode(level: str) -> None:
        with Bank.open(place) as own:
            for _ in range(4):
                own.compact(["sql@1", "sql@2", "sql@3"], level=level)

    def read(number: int) -> None:
        with Bank.open(place, readonly=True) as own:
            for k in range(6):
                assert_exported(own, "sql@2", chain[1], tmp_path / f"out{number}-{k}")
                assert own.verify().problems == ()

    bank.compact(["sql@1"], level="exact", dry_run=True)  # what is imported lazily is, before the fork
    jobs = [lambda: recode("exact"), lambda: recode("exact"), lambda: recode("original"), lambda: read(0), lambda: read(1)]
    assert together(jobs) == ["ok"] * len(jobs)
    assert bank.verify().problems == ()
    for number, folder in enumerate(chain, start=1):
        assert_exported(bank, f"sql@{number}", folder, tmp_path / "end" / str(number))
    bank.compact(["sql@1", "sql@2", "sql@3"], level="original")
    assert bank.gc(grace=0).objects == ()
