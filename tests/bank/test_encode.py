"""Versions coded on their own: what the form promises, what takes its place, what it is refused for, and how it comes back."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from adapterbank import Bank
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, ErrorBoundError, IncompatibleError, InUseError, NotFoundError, UsageError
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format.reader import read
from adapterbank.ways.encode import QUALITIES
from tests.bank.state import files, objects, state
from tests.bank.variants import with_dora, with_extras
from tests.catalog.processes import together

WIDE = {"h.0.q": (96, 64), "h.0.v": (64, 96), "h.1.q": (96, 64)}
CODECS = ["rd", "fixed"]


@pytest.fixture
def sql(bank, make):
    bank.register(make("sql", modules=WIDE, rank=8), name="sql")
    return "sql@1"


def original(bank, ref):
    version = bank.find(ref)
    return read(bank.rooms.vault.read(version.config), bytearray(bank.rooms.vault.read(version.weights)))


@pytest.mark.parametrize("codec", CODECS)
def test_the_stored_error_is_that_of_what_comes_back(bank, sql, codec):
    made = bank.encode(sql, max_error=0.4, codec=codec)
    form = made.form
    assert (form.basis, form.codec, form.version, made.status) == (None, codec, sql, "new")
    assert bank.forms(sql) == [form]
    error = delta_error(original(bank, sql), bank.reconstruct(sql, codec=codec))
    assert form.error == pytest.approx(error.total, rel=1e-9) and 0 < form.error <= 0.4
    assert form.module_errors == pytest.approx(error.modules, rel=1e-6) and set(form.module_errors) == set(WIDE)
    assert form.bytes == bank.rooms.vault.size(form.object)
    assert made.bits == 8 * form.bytes / bank.find(sql).parameters
    assert made.ratio == form.bytes / bank.find(sql).bytes
    assert bank.verify().problems == ()


@pytest.mark.parametrize(("codec", "bits"), [("rd", 2), ("fixed", 6)])
def test_bits_are_a_limit_for_the_whole_object(bank, sql, codec, bits):
    made = bank.encode(sql, bits=bits, codec=codec)
    assert made.bits <= bits and made.form.error < 0.7


def test_a_quality_names_an_error(bank, sql):
    for quality, error in QUALITIES.items():
        assert 0.8 * error < bank.encode(sql, quality=quality).form.error <= error
    assert bank.encode(sql).form.error == pytest.approx(QUALITIES["balanced"], rel=0.1)


def test_coding_again_takes_the_place_of_what_was_there(bank, place, sql):
    first = bank.encode(sql, quality="high").form
    fixed = bank.encode(sql, quality="small", codec="fixed").form
    assert bank.encode(sql, quality="high").status == "unchanged"
    made = bank.encode(sql, quality="small")
    assert made.status == "replaced" and {form.object for form in bank.forms(sql)} == {made.form.object, fixed.object}
    assert first.object not in objects(place)
    assert bank.gc(grace=0.0, dry_run=True).objects == () and bank.verify().problems == ()


def test_forms_are_given_back_alone_or_all(bank, place, sql):
    before = objects(place)
    for codec in CODECS:
        bank.encode(sql, quality="small", codec=codec)
    planned = bank.drop_forms([sql], dry_run=True)
    assert planned.objects == 2 and len(bank.forms(sql)) == 2
    assert bank.drop_forms([sql, "sql"], codec="fixed").objects == 1
    assert [form.codec for form in bank.forms(sql)] == ["rd"]
    bank.drop_forms([sql])
    assert bank.forms(sql) == [] and objects(place) == before
    with pytest.raises(NotFoundError, match="sql@1 has no form that stands alone"):
        bank.drop_forms([sql])


@pytest.mark.parametrize("codec", CODECS)
def test_a_form_can_take_the_place_of_the_exact_bytes(bank, sql, codec, tmp_path):
    form = bank.encode(sql, max_error=0.3, codec=codec).form
    assert bank.compact([sql], level="bounded", drop_exact=True).forms[sql].object == form.object
    with pytest.raises(InUseError, match=rf"form {codec} of sql@1 is needed by version sql@1"):
        bank.drop_forms([sql])
    with pytest.raises(ConflictError, match="only in a bounded form: sql@1"):
        bank.encode(sql, max_error=0.5)
    exported = bank.export(sql, tmp_path / "out", bounded=True)
    assert (exported.exact, exported.error) == (False, form.error)
    merged = bank.merge("average", {sql: 1.0}, name="m")
    assert "bounded" in merged.warnings[0].code and bank.replay("m").outcome != "differs"
    bank.remove(["m", sql])
    assert bank.verify().problems == () and bank.versions() == []


def test_what_cannot_be_coded_is_refused_and_nothing_is_stored(bank, place, sql, make):
    bank.register(with_dora(make("dora", seed=1)), name="dora")
    before = state(place)
    with pytest.raises(IncompatibleError, match="dora@1: DoRA"):
        bank.encode("dora")
    with pytest.raises(ErrorBoundError):
        bank.encode(sql, bits=0.01)
    wrong = [{"bits": -1.0}, {"max_error": float("nan")}, {"bits": 1, "quality": "high"}, {"quality": "best"}]
    for how in (*wrong, {"codec": "rmm"}, {"codec": "zip"}, {"effort": 4}, {"effort": -1}):
        with pytest.raises(UsageError):
            bank.encode(sql, **how)
    with pytest.raises(UsageError, match="zip"):
        bank.drop_forms([sql], codec="zip")
    assert state(place) == before


@pytest.mark.parametrize("codec", CODECS)
def test_extras_travel_verbatim_and_compaction_accepts_them(bank, make, codec):
    bank.register(with_extras(make("head")), name="head")
    wanted = original(bank, "head").extras
    bank.encode("head", max_error=0.5, codec=codec)
    bank.compact(["head"], level="bounded", drop_exact=True)
    found = bank.reconstruct("head", dtype=torch.bfloat16)
    assert wanted.keys() == found.extras.keys()
    for key, tensor in wanted.items():
        assert found.extras[key].dtype == tensor.dtype and torch.equal(found.extras[key], tensor)


@pytest.mark.parametrize("codec", CODECS)
def test_a_reconstruction_has_the_type_that_was_asked_for(bank, sql, codec):
    bank.encode(sql, quality="small", codec=codec)
    exact, half = bank.reconstruct(sql), bank.reconstruct(sql, dtype=torch.float16)
    assert exact.base_model == "tiny/encoder"
    for name, factors in half.modules.items():
        assert factors.A.dtype == factors.B.dtype == torch.float16
        assert torch.equal(factors.B, exact.modules[name].B.half()) and factors.scaling == 1.0
    with pytest.raises(NotFoundError, match="no stored form by the codec rmm"):
        bank.reconstruct(sql, codec="rmm")


@pytest.mark.parametrize("codec", CODECS)
def test_a_module_of_which_nothing_is_kept_is_written_as_zeros(bank, make, codec, tmp_path):
    """One module is a million times smaller than the others: at a large error none of its components is worth a byte."""
    folder = make("sql", modules=WIDE, rank=8, alpha_pattern={"h.1.q": 8e-6})
    bank.register(folder, name="sql")
    bank.encode("sql", max_error=0.9, codec=codec)
    written = bank.write_reconstruction("sql", tmp_path / "out")
    bank.register(tmp_path / "out", name="back")
    back = original(bank, "back")
    assert set(back.modules) == set(WIDE) and not back.modules["h.1.q"].B.any()
    assert delta_error(original(bank, "sql"), back).total == pytest.approx(written.error, rel=1e-6)


@pytest.mark.parametrize("codec", CODECS)
def test_every_module_says_how_it_is_stored(bank, sql, codec):
    form = bank.encode(sql, max_error=0.6, codec=codec).form
    modules = bank.form_modules(form)
    assert [module.name for module in modules] == sorted(WIDE)
    assert {module.name: module.error for module in modules} == form.module_errors
    found = bank.reconstruct(sql).modules
    assert all(module.live == found[module.name].rank and module.rank == 8 for module in modules if module.live)
    assert 0 < sum(module.bytes for module in modules) <= form.bytes * 1.01


def test_a_large_effort_is_never_worse(bank, sql):
    sizes = [bank.encode(sql, max_error=0.5, effort=effort).form.bytes for effort in (0, 2)]
    assert sizes[1] <= sizes[0]


def test_progress_ends_where_everything_is_done(bank, sql):
    told = []
    bank.encode(sql, quality="small", progress=lambda done, total: told.append((done, total)))
    assert told and told[-1][0] == told[-1][1]
    assert all(0 <= done <= total for done, total in told)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forked children must not wait for a thread pool that stayed in the parent
    yield
    torch.set_num_threads(threads)


def test_processes_that_code_one_version_at_once_leave_one_form(bank, place, sql, one_thread):
    bank.close()
    made = [0.3, 0.4, 0.5, 0.6]

    def code(error):
        with Bank.open(place) as own:
            own.encode(sql, max_error=error)

    assert together([lambda error=error: code(error) for error in made]) == ["ok"] * len(made)
    with Bank.open(place) as bank:
        (form,) = bank.forms(sql)
        assert any(0.8 * error < form.error <= error for error in made)
        bank.gc(grace=0.0)
        assert objects(place) == {form.object, bank.find(sql).config, bank.find(sql).weights}
        assert bank.verify().problems == ()


def test_a_kill_between_the_object_and_its_row_leaves_only_garbage(bank, place, sql, one_thread, monkeypatch):
    before = set(files(place))
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Catalog, "writing", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        bank.encode(sql, quality="small")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert bank.forms(sql) == [] and bank.verify().problems == ()
    assert set(files(place)) > before
    assert len(bank.gc(grace=0.0).objects) == 1
    assert bank.encode(sql, quality="small").status == "new"
