"""What a resident bank refuses, with what it says; and what a refresh may and may not change."""

import shutil
from functools import partial

import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import AdapterBankError, IncompatibleError, NotFoundError, PlatformError, UsageError
from adapterbank.rmm.reconstruct import compiler
from tests.adapters import write_adapter

LLAMA = {"layers.0.q_proj": (24, 16), "layers.0.down_proj": (16, 40)}
BACKENDS = ["reference", *(["compiled"] if compiler() else [])]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """sql, math and law of tiny/llama; a basis b and a collection c of them; a fixed-width form of sql."""
    folder = tmp_path_factory.mktemp("refusals")
    with Bank.open(folder / "bank", create=True) as bank:
        for seed, name in enumerate(("sql", "math", "law")):
            made = write_adapter(folder / name, modules=LLAMA, seed=seed)
            bank.register(made, name=name, base_model="tiny/llama")
        bank.build_basis("b", ["sql@1", "math@1"], components=1, codec="rmm", force=True)
        bank.build_basis("c", ["sql@1", "math@1"], max_error=0.5, codec="rd", force=True)
        bank.encode("sql@1", max_error=0.3, codec="fixed")
    return folder


@pytest.fixture
def bank(prepared, tmp_path):
    with Bank.open(shutil.copytree(prepared / "bank", tmp_path / "bank")) as bank:
        bank.serving = partial(bank.serving, backend="reference")
        yield bank


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"refs": [1]}, "reference 1: expected a text"),
        ({"rank": "16"}, "rank '16': expected a whole number from 1"),
        ({"rank": 0}, "rank 0: expected a whole number from 1"),
        ({"shard": 1}, r"shard 1: expected \(worker, workers\)"),
        ({"shard": (0, 0)}, "got 0 workers"),
        ({"shard": (2, 2)}, "got worker 2 of 2"),
        ({"shard": (0, 2), "plan": {"*": "cols"}}, "plan: got 'cols' for '\\*', expected 'column' or 'row'"),
        ({"plan": {"*": "cols"}}, "plan: got 'cols'"),
        ({"shard": (0, 2), "plan": {"*.query": "column"}}, "the plan splits none of the 2 modules"),
        ({"budget": "inf"}, "budget is 'inf'"),
        ({"budget": 1.5}, "budget is 1.5"),
        ({"budget": None}, "budget is None"),
        ({"budget": -1}, "budget is -1"),
        ({"host_budget": -1}, "host_budget is -1"),
        ({"form": "fixed", "store": "int8"}, "store 'int8': the codes of the form 'fixed'"),
        ({"store": "int8"}, "store 'int8': sql@1 is served from its fixed-width form"),
        ({"refs": (), "basis": "c", "form": "rmm"}, "c@1 is a collection of coded adapters"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bank, settings, says):
    with pytest.raises(UsageError, match=says):
        bank.serving(settings.pop("refs", ["sql@1"]), **settings)


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(bank, device):
    with pytest.raises(PlatformError, match="device"):
        bank.serving(["sql@1"], device=device)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_takes_the_same_buffers(bank, backend):
    resident = bank.serving(["sql@1", "math@1"], form="raw", rank=20, backend=backend)
    size = resident.layout.size
    for wrong in (
        torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.int32), torch.zeros(size, device="meta"),
        torch.zeros(size - 1), torch.zeros(1, size), torch.zeros(2 * size)[::2], torch.zeros(size).numpy(), None,
    ):  # fmt: skip
        for write in (
            lambda out: resident.write("sql@1", out),
            lambda out: resident.blend({"sql@1": 0.5, "math@1": 0.5}, out),
            lambda out: resident.blend({"sql@1": 0.5, "math@1": 0.5}, out, cut=True),
        ):
            with pytest.raises(UsageError, match="buffer: got"):
                write(wrong)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        out = torch.zeros(size, dtype=dtype)
        resident.write("sql@1", out)
        assert out.any()
    with torch.inference_mode():
        made = resident.buffer()
    for out in (made, torch.zeros(size, requires_grad=True)):
        resident.write("sql@1", out)
        resident.blend({"math@1": 1.0}, out)
        assert out.any()


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "0.7", None])
def test_only_finite_weights_are_blended(bank, weight):
    resident = bank.serving(["sql@1", "math@1"], form="raw")
    for cut in (False, True):
        out = resident.buffer()
        with pytest.raises(UsageError, match=r"weight of sql@1: got .*, expected a finite number"):
            resident.blend({"sql@1": weight, "math@1": 1.0}, out, cut=cut)
        assert not out.any()
    for nothing in ({}, [("sql@1", 0.5)]):
        with pytest.raises(UsageError, match="nothing to blend"):
            resident.blend(nothing, resident.buffer())


def test_products_of_no_rows_and_of_integers(bank):
    resident = bank.serving(["sql@1"], form="raw")
    assert resident.apply("layers.0.q_proj", torch.ones(0, 16, dtype=torch.bfloat16), []).shape == (0, 24)
    for x, says in (
        (torch.ones(0, 15), r"x is \[0, 15\], expected \[0, 16\]"),
        (torch.ones(0, 16, dtype=torch.int64), "x is torch.int64, expected a floating-point"),
    ):
        with pytest.raises(UsageError, match=says):
            resident.apply("layers.0.q_proj", x, [])
    with pytest.raises(UsageError, match=r"x is torch\.int64, expected a floating-point"):
        resident.apply("layers.0.q_proj", torch.ones(1, 16, dtype=torch.int64), ["sql@1"])


def test_a_batch_larger_than_the_budget_is_refused_at_once(bank):
    one = bank.serving(["sql@1"], form="raw").now.source.load("sql@1").nbytes
    resident = bank.serving(["sql@1", "math@1"], form="raw", budget=one + 100, rank=20)
    out = [resident.buffer(), resident.buffer()]
    for both in (
        lambda: resident.write_many(["sql@1", "math@1"], out),
        lambda: resident.apply("layers.0.q_proj", torch.ones(2, 16), ["sql@1", "math@1"]),
        lambda: resident.blend({"sql@1": 0.5, "math@1": 0.5}, out[0]),
    ):
        with pytest.raises(UsageError, match=rf"2 adapters at once take {2 * one} bytes, the budget is {one + 100}"):
            both()
    resident.write_many(["sql@1", "sql@1"], out)
    assert torch.equal(*out) and out[0].any()


def test_a_reference_that_is_not_served_is_told_from_one_that_does_not_exist(bank, prepared, tmp_path):
    resident = bank.serving(["sql@1", "math"], form="raw")
    with pytest.raises(NotFoundError, match="no adapter is called 'sqk'"):
        resident.version("sqk")
    with pytest.raises(UsageError, match="reference 3: expected a text"):
        resident.version(3)

    def said(ref):
        with pytest.raises(NotFoundError) as told:
            resident.version(ref)
        return str(told.value)

    assert said("law") == "'law' is not among the 2 adapters that are served: it means law@1\nbank.serving([…, 'law@1'])"
    for name in ("sql", "math"):
        made = write_adapter(tmp_path / name, modules=LLAMA, seed=9 + len(name))
        bank.register(made, name=name, base_model="tiny/llama")
    assert resident.version("sql") == "sql@1", "as it was when the bank was loaded"
    assert said("math@2") == "'math@2' is not among the 2 adapters that are served\nrefresh()"
    assert said("sql@2") == "'sql@2' is not among the 2 adapters that are served\nbank.serving([…, 'sql@2'])"
    resident.refresh()
    assert resident.version("math") == "math@2"
    assert said("sql") == "'sql' is not among the 2 adapters that are served: it means sql@2\nbank.serving([…, 'sql@2'])"


def test_what_is_no_member_of_the_basis_is_told_how_it_becomes_one(bank):
    resident = bank.serving(basis="b", form="rmm")
    with pytest.raises(NotFoundError, match=r"'law@1' is not among the 2 .*\nadapterbank basis add b law@1, then refresh\(\)"):
        resident.version("law@1")


def test_a_form_that_was_dropped_is_said_to_be_gone(bank):
    resident = bank.serving(["sql@1"], form="fixed")
    object_of = bank.rooms.vault.path(next(form for form in bank.forms("sql@1") if form.codec == "fixed").object)
    kept = object_of.read_bytes()
    object_of.unlink()
    with pytest.raises(NotFoundError, match="adapterbank verify"):
        resident.write("sql@1", resident.buffer())
    object_of.write_bytes(kept)
    bank.drop_forms(["sql@1"], codec="fixed")
    bank.gc(grace=0)
    for ask in (lambda: resident.write("sql@1", resident.buffer()), lambda: resident.error("sql@1")):
        with pytest.raises(NotFoundError, match=r"what was served as sql@1 is not in the bank any more.*\nrefresh\(\)"):
            ask()


def test_a_refresh_never_goes_over_to_another_base_model(bank, tmp_path):
    resident = bank.serving(["math"], form="raw")
    before = resident.factors("math")
    made = write_adapter(tmp_path / "other", modules=LLAMA, seed=7)
    bank.register(made, name="math", base_model="other/llama", force=True)
    with pytest.raises(IncompatibleError, match="math@2 is on other/llama, what is resident on tiny/llama"):
        resident.refresh()
    assert resident.refs == ("math@1",)
    after = resident.factors("math")
    assert all(torch.equal(before[name].B, after[name].B) for name in before)
    bank.join_base_models("other/llama", "tiny/llama")
    resident.refresh()
    assert resident.refs == ("math@2",)


def test_a_refresh_that_fits_one_layout_only_changes_none(bank, tmp_path):
    from adapterbank.serving.slots import SlotLayout

    resident = bank.serving(["math"], form="raw", rank=16)
    narrow = resident.laid_out(SlotLayout.of(bank.find("math@1").modules))
    made = write_adapter(tmp_path / "wide", modules=LLAMA, seed=7, rank=16)
    bank.register(made, name="math", base_model="tiny/llama", force=True)
    for each in (resident, narrow):
        with pytest.raises(IncompatibleError):
            each.refresh()
        assert resident.refs == narrow.refs == ("math@1",)


def test_all_residents_of_a_bank_share_one_budget(bank):
    from adapterbank.serving.slots import SlotLayout

    one = bank.serving(["sql@1"], form="raw").now.source.load("sql@1").nbytes
    resident = bank.serving(["sql@1", "math@1"], form="raw", budget=one + 100)
    other = resident.laid_out(SlotLayout.of(bank.find("sql@1").modules, 20))
    assert resident.laid_out(other.layout).now == other.now
    for _ in range(3):
        for each in (resident, other):
            each.write("sql@1", each.buffer())
            assert resident.statistics().device_bytes <= one + 100
    assert resident.statistics() == other.statistics() and resident.statistics().loaded == 6


def test_every_refusal_is_an_error_of_the_bank(bank):
    """Not a raw one of torch or of Python."""
    resident = bank.serving(["sql@1"], form="raw")
    for ask in (
        lambda: resident.version(None),
        lambda: resident.version("../x"),
        lambda: resident.pin("sqk"),
        lambda: resident.error(""),
    ):
        with pytest.raises(AdapterBankError):
            ask()
