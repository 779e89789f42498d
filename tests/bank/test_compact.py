"""Compacting through the façade: exact bytes go only when the form that stays was decoded and is what it says."""

from __future__ import annotations

import json

import pytest

from adapterbank.errors import BoundedOnlyError, ConflictError, IntegrityError, InUseError, NotFoundError, UsageError
from adapterbank.lora.delta import delta
from tests.bank import dense
from tests.bank.state import objects, state

NAMES = ["sql", "math", "law"]


@pytest.fixture
def three(bank, add):
    """Directories by name; all are members of ``coarse`` and of the better ``fine``."""
    folders = {name: add(name, seed=seed, rank=6) for seed, name in enumerate(NAMES)}
    bank.build_basis("coarse", NAMES, components=0, force=True)
    bank.build_basis("fine", NAMES, components=1, gauge="svd", force=True)
    return folders


def test_exact_bytes_go_and_the_best_form_stays(bank, place, three, tmp_path):
    version, before = bank.find("sql"), objects(place)
    done = bank.compact(["sql"], drop_exact=True)
    form = bank.forms("sql")[0]
    assert (done.refs, done.forms, done.merges_bounded) == (("sql@1",), {"sql@1": form}, ()) and form.basis == "fine@1"
    assert before - objects(place) == {version.weights} and objects(place) <= before
    assert done.bytes_freed == (three["sql"] / "adapter_model.safetensors").stat().st_size
    after = bank.find("sql")
    assert after.level == "bounded" and (after.files, after.content, after.id) == (version.files, version.content, version.id)
    found = {name: delta(f).numpy() for name, f in bank.reconstruct("sql").modules.items()}
    assert dense.distance(found, dense.deltas(three["sql"])) == pytest.approx(form.error, rel=1e-5)
    assert bank.verify().problems == ()
    assert [edge.dependent for edge in bank.dependents("sql")] == []


def test_export_refuses_or_writes_what_it_marks(bank, three, tmp_path):
    bank.compact(["sql"], basis="coarse", drop_exact=True)
    with pytest.raises(BoundedOnlyError, match=r"sql@1 is kept only in a bounded form") as refused:
        bank.export("sql", tmp_path / "out")
    assert refused.value.exit_code == 10 and not (tmp_path / "out").exists()
    done = bank.export("sql", tmp_path / "out", bounded=True)
    form = next(form for form in bank.forms("sql") if form.basis == done_basis(tmp_path / "out"))
    assert (done.exact, done.error) == (False, form.error)
    assert dense.distance(dense.deltas(tmp_path / "out"), dense.deltas(three["sql"])) == pytest.approx(form.error, rel=1e-5)


def done_basis(folder):
    return json.loads((folder / "adapterbank.json").read_text())["basis"]


def test_its_original_files_restore_it(bank, place, three, tmp_path):
    before = objects(place)
    bank.compact(["sql"], drop_exact=True)
    with pytest.raises(InUseError):
        bank.remove_basis("fine")
    assert bank.register(three["sql"], name="sql").status == "restored"
    assert objects(place) == before and bank.find("sql").level == "original"
    bank.export("sql", tmp_path / "out")
    for path in three["sql"].iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    bank.remove_basis("fine")


def test_without_consent_a_form_or_a_known_level_nothing_happens(bank, place, three, add):
    add("alone", seed=9)
    before = state(place)
    with pytest.raises(UsageError, match="--drop-exact"):
        bank.compact(["sql"])
    with pytest.raises(UsageError, match="level"):
        bank.compact(["sql"], level="lossy", drop_exact=True)
    with pytest.raises(NotFoundError, match=r"alone@1 has no stored form"):
        bank.compact(["sql", "alone"], drop_exact=True)
    with pytest.raises(NotFoundError, match="nope"):
        bank.compact(["sql"], basis="nope", drop_exact=True)
    assert state(place) == before


def test_a_dry_run_says_the_same_and_changes_nothing(bank, place, three):
    bank.merge("average", {"sql": 1.0, "math": 1.0}, name="m")
    before = state(place)
    tried = bank.compact(["sql", "law"], dry_run=True)
    assert state(place) == before and tried.dry_run
    done = bank.compact(["sql", "law"], drop_exact=True)
    assert (tried.refs, tried.bytes_freed, tried.forms) == (done.refs, done.bytes_freed, done.forms)
    assert tried.merges_bounded == done.merges_bounded == ("m@1",)


def test_twice_is_once(bank, place, three):
    assert bank.compact(["sql", "sql@1"], drop_exact=True).refs == ("sql@1",)
    before = state(place)
    assert bank.compact(["sql"], drop_exact=True).refs == () and state(place) == before


def test_bytes_that_another_name_needs_stay(bank, place, three):
    bank.register(three["sql"], name="twin")
    before = objects(place)
    bank.compact(["sql"], drop_exact=True)
    assert objects(place) == before
    bank.remove(["twin"])
    assert bank.find("sql").weights not in objects(place) and bank.verify().problems == ()


@pytest.mark.parametrize("which", ["basis", "member", "original"])
def test_a_form_that_is_damaged_drops_nothing(bank, place, three, which):
    form = bank.forms("sql")[0]
    digest = {"basis": bank.basis("fine").object, "member": form.object, "original": bank.find("sql").weights}[which]
    path = place / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    before = state(place)
    with pytest.raises(IntegrityError):
        bank.compact(["math", "sql"], drop_exact=True)
    assert state(place) == before


def test_a_form_that_is_not_what_its_row_says_drops_nothing(bank, place, three, monkeypatch):
    """Another member's coefficients decode without complaint; only the error tells."""
    from adapterbank.ways import compact as way

    wrong = way.reconstruct_member(bank.rooms, bank.forms("math")[0])
    monkeypatch.setattr(way, "reconstruct_member", lambda rooms, member: wrong)
    before = state(place)
    with pytest.raises(IntegrityError, match=r"decodes to error"):
        bank.compact(["sql"], drop_exact=True)
    assert state(place) == before


def test_a_bound_is_checked_as_a_measured_error_is(bank, place, three):
    """sql comes back exact after a rebuild from its bounded form; its form there says a bound, and that must hold."""
    bank.compact(["sql"], basis="coarse", drop_exact=True)
    bank.rebuild_basis("coarse", accept_generation_loss=True, force=True)
    bank.register(three["sql"], name="sql")
    form = bank.compact(["sql"], basis="coarse@2", drop_exact=True).forms["sql@1"]
    assert form.error_kind == "bound"
    found = {name: delta(f).numpy() for name, f in bank.reconstruct("sql", basis="coarse@2").modules.items()}
    assert dense.distance(found, dense.deltas(three["sql"])) <= form.error


def test_a_bounded_version_is_not_projected_again(bank, three):
    bank.build_basis("pair", ["math", "law"], components=1, force=True)
    bank.compact(["sql"], drop_exact=True)
    with pytest.raises(ConflictError, match=r"sql@1"):
        bank.add_to_basis("pair", "sql", force=True)
