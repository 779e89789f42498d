"""A bank opened read-only does everything that reads, nothing that writes, and leaves no file behind."""

from __future__ import annotations

import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import NotFoundError, StorageError, UsageError
from adapterbank.ways.materialize import Order
from tests import hook


@pytest.fixture
def full(bank, place, add):
    """A bank with a bit of everything, closed, its lock files gone; the adapters' directories by name."""
    folders = {name: add(name, seed=seed, rank=6) for seed, name in enumerate(("sql", "math", "law"))}
    bank.build_basis("b", list(folders), components=1, force=True)
    bank.merge("average", {"sql": 1.0, "math": 1.0}, name="m")
    bank.calibrate("adamerging", ["sql", "math"], hook.setting(["sql@1", "math@1"]), options={"steps": 1})
    bank.set_alias("sql", "prod", 1)
    bank.compact(["law"], drop_exact=True)
    bank.rooms.vault.put_bytes(b"garbage")
    bank.close()
    for lock in (place / "locks").iterdir():
        lock.unlink()
    return folders


def learned(bank):
    """The reference of the only artefact."""
    return bank.artefacts()[0].ref


def listing(place):
    """Every file and folder with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [place, *place.rglob("*")]}


READS = {
    "serving": lambda bank, out: bank.serving(["sql"], backend="reference").factors("sql"),
    "is_base_model": lambda bank, out: bank.is_base_model("tiny/encoder", "tiny/encoder"),
    "launch_flags": lambda bank, out: bank.launch_flags(["sql"], server="vllm"),
    "materialize": lambda bank, out: bank.materialize(["sql"], out),
    "plan_directory": lambda bank, out: bank.plan_directory("sql", Order()),
    "write_directory": lambda bank, out: bank.write_directory(bank.plan_directory("sql", Order()), out),
    "find": lambda bank, out: bank.find("sql@prod"),
    "versions": lambda bank, out: bank.versions(where="rank=6"),
    "select": lambda bank, out: bank.select(["sql"]),
    "history": lambda bank, out: bank.history("sql"),
    "list_aliases": lambda bank, out: bank.list_aliases(),
    "base_models": lambda bank, out: bank.base_models(),
    "recipe": lambda bank, out: bank.recipe("m"),
    "recipe_text": lambda bank, out: bank.recipe_text("m"),
    "recipe_digest": lambda bank, out: bank.recipe_digest("m"),
    "explain": lambda bank, out: bank.explain("m"),
    "compare": lambda bank, out: bank.compare([("average", {})], {"sql": 1.0, "math": 1.0}),
    "blend": lambda bank, out: bank.blend({"sql": 0.5, "math": 0.5}),
    "write_blend": lambda bank, out: bank.write_blend({"sql": 0.5, "math": 0.5}, out),
    "cluster": lambda bank, out: bank.cluster(["sql", "math"], 1),
    "artefacts": lambda bank, out: bank.artefacts(),
    "artefact": lambda bank, out: bank.artefact(learned(bank)),
    "about_artefact": lambda bank, out: bank.about_artefact(learned(bank)),
    "coefficients": lambda bank, out: bank.coefficients(learned(bank)),
    "compare_coefficients": lambda bank, out: bank.compare_coefficients([learned(bank)]),
    "dependents": lambda bank, out: bank.dependents("sql"),
    "forms": lambda bank, out: bank.forms("law"),
    "form_modules": lambda bank, out: bank.form_modules(bank.forms("law")[0]),
    "bases": lambda bank, out: bank.bases(),
    "basis": lambda bank, out: bank.basis("b"),
    "members": lambda bank, out: bank.members("b"),
    "basis_settings": lambda bank, out: bank.basis_settings("b"),
    "basis_options": lambda bank, out: bank.basis_options(["sql", "math"]),
    "export": lambda bank, out: bank.export("sql", out),
    "export bounded": lambda bank, out: bank.export("law", out, bounded=True),
    "reconstruct": lambda bank, out: bank.reconstruct("law", dtype=torch.float16),
    "write_reconstruction": lambda bank, out: bank.write_reconstruction("sql", out),
    "replay": lambda bank, out: bank.replay("m"),
    "revert": lambda bank, out: bank.revert("m", out),
    "verify": lambda bank, out: bank.verify(),
    "doctor": lambda bank, out: bank.doctor(),
    "gc dry": lambda bank, out: bank.gc(dry_run=True, grace=0.0),
}
WRITES = {
    "register": lambda bank, new: bank.register(new, name="new"),
    "set_alias": lambda bank, new: bank.set_alias("sql", "x", 1),
    "remove_alias": lambda bank, new: bank.remove_alias("sql", "prod"),
    "label": lambda bank, new: bank.label("sql", tags={"a": "b"}),
    "add_base_model": lambda bank, new: bank.add_base_model("x"),
    "alias_base_model": lambda bank, new: bank.alias_base_model("tiny/encoder", "x"),
    "join_base_models": lambda bank, new: bank.join_base_models("tiny/encoder", "x"),
    "build_basis": lambda bank, new: bank.build_basis("c", ["sql", "math"], components=1, force=True),
    "add_to_basis": lambda bank, new: bank.add_to_basis("b", "m", force=True),
    "rebuild_basis": lambda bank, new: bank.rebuild_basis("b", refs=["sql", "math"], force=True),
    "remove_basis": lambda bank, new: bank.remove_basis("b"),
    "encode": lambda bank, new: bank.encode("sql"),
    "drop_forms": lambda bank, new: bank.drop_forms(["sql"]),
    "merge": lambda bank, new: bank.merge("average", {"sql": 1.0}, name="n"),
    "merge_recipe": lambda bank, new: bank.merge_recipe("method: cat\ninputs: [sql]", name="n"),
    "merge_again": lambda bank, new: bank.merge_again("m", add={"law": 1.0}),
    "merge_coefficients": lambda bank, new: bank.merge_coefficients(learned(bank), name="n"),
    "calibrate": lambda bank, new: bank.calibrate("gram", ["sql"], hook.setting(["sql@1"])),
    "remove_artefacts": lambda bank, new: bank.remove_artefacts([learned(bank)]),
    "remove": lambda bank, new: bank.remove(["m"]),
    "compact": lambda bank, new: bank.compact(["sql"], drop_exact=True),
    "gc": lambda bank, new: bank.gc(grace=0.0),
}


def test_all_that_reads_works_and_leaves_no_file(full, place, tmp_path):
    before = listing(place)
    with Bank.open(place, readonly=True) as bank:
        for name, read in READS.items():
            assert read(bank, tmp_path / "out" / name) is not None
    assert listing(place) == before


def test_all_that_writes_is_refused_and_leaves_no_file(full, place, make):
    new, before = make("new", seed=9), listing(place)
    with Bank.open(place, readonly=True) as bank:
        for write in WRITES.values():
            with pytest.raises(StorageError, match="read-only"):
                write(bank, new)
    assert listing(place) == before


def test_every_method_of_the_facade_is_one_or_the_other():
    public = {name for name in dir(Bank) if not name.startswith("_")} - {"open", "close", "upgrade"}
    assert public == {name.split()[0] for name in (*READS, *WRITES)} | {"register_many"}


def test_opening_makes_a_bank_only_when_asked_to(tmp_path):
    with pytest.raises(NotFoundError, match="no bank"):
        Bank.open(tmp_path / "none")
    with pytest.raises(NotFoundError):
        Bank.open(tmp_path / "none", readonly=True)
    with pytest.raises(UsageError):
        Bank.open(tmp_path / "none", readonly=True, create=True)
    assert not (tmp_path / "none").exists()


def test_a_url_and_the_environment_name_a_bank_too(place, monkeypatch):
    with Bank.open(f"sqlite:///{place}") as bank:
        assert bank.rooms.root == place
    monkeypatch.setenv("ADAPTERBANK", str(place))
    with Bank.open() as bank:
        assert bank.rooms.root == place
