"""A bank that is resident: every form gives what the bank reconstructs, in one buffer, alone, together, merged and applied."""

import shutil
import threading
from functools import partial

import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import IncompatibleError, NotFoundError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta, delta_error
from tests.adapters import write_adapter

LLAMA = {"layers.0.q_proj": (24, 16), "layers.0.down_proj": (16, 40), "layers.1.q_proj": (24, 16)}
NAMES = ("sql", "math", "law", "art")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Four adapters with a basis b1, fixed-width forms and an alias; art lacks a module and has a lower rank in one."""
    folder = tmp_path_factory.mktemp("prepared")
    with Bank.open(folder / "bank", create=True) as bank:
        for seed, name in enumerate(NAMES):
            modules = {k: v for k, v in LLAMA.items() if name != "art" or k != "layers.1.q_proj"}
            pattern = {"layers.0.down_proj": 2} if name == "art" else {}
            made = write_adapter(folder / name, modules=modules, seed=seed, alpha=4 + seed, rank_pattern=pattern)
            bank.register(made, name=name)
            bank.encode(name, max_error=0.3, codec="fixed")
        bank.build_basis("b1", [f"{name}@1" for name in NAMES], components=2, codec="rmm", force=True)
        bank.set_alias("sql", "prod", 1)
    return folder / "bank"


@pytest.fixture
def four(prepared, tmp_path):
    with Bank.open(shutil.copytree(prepared, tmp_path / "four")) as bank:
        bank.serving = partial(bank.serving, backend="reference")
        yield bank


def served(resident, ref):
    """The adapter in a buffer, without the modules that are all zeros."""
    found = resident.factors(ref)
    return Adapter({name: f for name, f in found.items() if f.A.any() or f.B.any()})


def wanted(bank, ref, form):
    if form == "raw":
        return bank.reconstruct(ref) if bank.find(ref).level == "bounded" else _exact(bank, ref)
    return bank.reconstruct(ref, basis="b1") if form == "rmm" else bank.reconstruct(ref, codec="fixed")


def _exact(bank, ref):
    from adapterbank.ways.load import load

    with load(bank.rooms, bank.find(ref)) as loaded:
        return Adapter({n: type(f)(f.A.clone(), f.B.clone(), f.scaling) for n, f in loaded.adapter.modules.items()})


@pytest.mark.parametrize("backend", ["reference"])
@pytest.mark.parametrize("form", ["rmm", "fixed", "raw"])
def test_every_form_gives_what_the_bank_reconstructs(four, form, backend):
    resident = four.serving([f"{name}@1" for name in NAMES], basis="b1", form=form, backend=backend)
    for name in NAMES:
        expected = wanted(four, f"{name}@1", form)
        assert delta_error(expected, served(resident, name)).total < 1e-6
        if form == "rmm":
            assert resident.error(name) == next(m.error for m in four.members("b1") if m.version == f"{name}@1")
    art = resident.factors("art")["layers.1.q_proj"]
    assert not art.A.any() and not art.B.any()


@pytest.mark.parametrize("form", ["rmm", "fixed", "raw"])
def test_a_batch_gives_the_bits_of_each_alone(four, form):
    resident = four.serving([f"{name}@1" for name in NAMES], basis="b1", form=form, dtype="bfloat16")
    alone = [resident.buffer() for _ in NAMES]
    together = [resident.buffer() for _ in NAMES]
    for name, out in zip(NAMES, alone, strict=True):
        resident.write(name, out)
    resident.write_many(NAMES, together)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert resident.statistics().written == 8 and resident.statistics().launches == 5


def test_references_mean_what_they_meant_until_it_is_refreshed(four, make):
    resident = four.serving(basis="b1", form="rmm")
    assert set(resident.refs) == {f"{name}@1" for name in NAMES}
    digest = f"sha256:{four.find('sql@1').files}"
    assert {resident.version(ref) for ref in ("sql", "sql@1", "sql@prod", digest)} == {"sql@1"}
    four.register(make("sql2", modules=LLAMA, seed=9), name="sql")
    four.set_alias("sql", "prod", 2)
    four.add_to_basis("b1", "sql@2", force=True)
    assert resident.version("sql@prod") == "sql@1"
    with pytest.raises(NotFoundError, match=r"'sql@2' is not among the 4 adapters"):
        resident.write("sql@2", resident.buffer())
    resident.refresh()
    assert resident.version("sql@prod") == resident.version("sql") == "sql@2"
    assert delta_error(four.reconstruct("sql@2", basis="b1"), served(resident, "sql@prod")).total < 1e-6


def test_it_stays_on_the_version_of_the_basis_that_it_loaded(four):
    resident = four.serving(basis="b1", form="rmm")
    before = resident.factors("math")
    four.build_basis("b1", ["sql@1", "math@1", "law@1"], components=1, codec="rmm", force=True)
    again = resident.factors("math")
    assert all(torch.equal(before[name].B, again[name].B) for name in before)


def test_the_buffer_has_the_rank_that_was_asked_for(four):
    resident = four.serving(["sql@1", "art@1"], form="fixed", rank=8)
    assert {place.whole.rank for place in resident.layout} == {8}
    assert delta_error(four.reconstruct("sql", codec="fixed"), served(resident, "sql")).total < 1e-6
    with pytest.raises(IncompatibleError, match="the buffer rank 2"):
        four.serving(["sql@1"], form="raw", rank=2)


@pytest.mark.parametrize("form", ["rmm", "fixed", "raw"])
def test_apply_is_the_reconstructed_product(four, form):
    resident = four.serving([f"{name}@1" for name in NAMES], basis="b1", form=form)
    draw = torch.Generator().manual_seed(3)
    refs = ["sql", "art", "math", "sql", "law", "art", "math"]
    for module, (d_out, d_in) in LLAMA.items():
        x = torch.randn(len(refs), d_in, generator=draw)
        y = resident.apply(module, x, refs)
        assert y.shape == (len(refs), d_out)
        for row, ref in enumerate(refs):
            expected = delta(resident.factors(ref)[module]).float() @ x[row]
            torch.testing.assert_close(y[row], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="has no module 'lm_head'"):
        resident.apply("lm_head", x, refs)
    with pytest.raises(UsageError, match=r"x is \[7, 16\], expected \[3, 16\]"):
        resident.apply("layers.0.q_proj", torch.zeros(7, 16), refs[:3])


@pytest.mark.parametrize("form", ["rmm", "fixed", "raw"])
def test_blends_are_exact_side_by_side_or_cut_with_their_residual(four, form):
    weights = {"sql@1": 0.7, "art@1": -0.3, "law@1": 1.1}
    dense = {}
    wide = four.serving([f"{name}@1" for name in NAMES], basis="b1", form=form, rank=12)
    for ref, weight in weights.items():
        for name, f in wide.factors(ref).items():
            dense[name] = dense.get(name, 0.0) + weight * delta(f)
    out = torch.full((wide.layout.size,), torch.nan)
    assert wide.blend(weights, out) == 0.0
    for name, f in wide.layout.views(out).items():
        torch.testing.assert_close(delta(f), dense[name], rtol=1e-5, atol=1e-6)
    narrow = four.serving([f"{name}@1" for name in NAMES], basis="b1", form=form, rank=4)
    out = narrow.buffer()
    with pytest.raises(IncompatibleError, match=r"need \d+ columns, the buffer has 4"):
        narrow.blend(weights, out)
    residual = narrow.blend(weights, out, cut=True)
    lost = sum(float((delta(f) - dense[name]).square().sum()) for name, f in narrow.layout.views(out).items())
    assert 0.0 < residual == pytest.approx((lost / sum(float(d.square().sum()) for d in dense.values())) ** 0.5, rel=1e-4)
    tail = sum(float(torch.linalg.svdvals(d)[4:].square().sum()) for d in dense.values())
    assert lost == pytest.approx(tail, rel=1e-3)


@pytest.mark.parametrize("form", ["rmm", "fixed", "raw"])
def test_shards_are_slices(four, form):
    from fnmatch import fnmatchcase

    refs = [f"{name}@1" for name in NAMES]
    whole = four.serving(refs, basis="b1", form=form).factors("law")
    for worker in (0, 1):
        part = four.serving(refs, basis="b1", form=form, shard=(worker, 2))
        for name, f in part.factors("law").items():
            out = slice(worker * 12, worker * 12 + 12) if fnmatchcase(name, "*.q_proj") else slice(None)
            into = slice(worker * 20, worker * 20 + 20) if fnmatchcase(name, "*.down_proj") else slice(None)
            assert torch.equal(f.B, whole[name].B[out]) and torch.equal(f.A, whole[name].A[:, into])


def test_integers_state_a_bound_of_what_they_lose(four):
    resident = four.serving(basis="b1", form="rmm", store="int4")
    exact = four.serving(basis="b1", form="rmm")
    stated = resident.error("sql")
    assert stated > exact.error("sql")
    true = delta_error(_exact(four, "sql@1"), served(resident, "sql")).total
    assert true <= stated
    assert resident.statistics().shared_bytes < exact.statistics().shared_bytes / 2


def test_beyond_the_budget_the_least_recently_used_goes(four):
    one = four.serving(["sql@1"], form="raw").statistics
    refs = [f"{name}@1" for name in NAMES]
    resident = four.serving(refs, form="raw", budget=2 * _bytes(four, "sql@1"))
    out = resident.buffer()
    for ref in (*refs, *refs):
        resident.write(ref, out)
        assert resident.statistics().device_bytes <= 2 * _bytes(four, "sql@1")
    found = resident.statistics()
    assert found.loaded == 8 and found.hits == 0 and found.evicted >= 5 and one().hits == 0
    resident.pin("sql")
    for ref in refs[1:]:
        resident.write(ref, out)
    resident.write("sql", out)
    assert resident.statistics().hits == 1
    resident.unpin("sql")
    assert "adapterbank_serving_loaded_total" in resident.prometheus()


def _bytes(bank, ref):
    """Float32 factors, and four numbers for each place of the layout."""
    return 4 * bank.find(ref).parameters + 4 * 8 * len(LLAMA)


def test_threads_on_different_adapters_get_their_own(four):
    refs = [f"{name}@1" for name in NAMES]
    resident = four.serving(refs, basis="b1", form="rmm", budget=2 * 4096)
    right = {ref: resident.buffer() for ref in refs}
    for ref, out in right.items():
        resident.write(ref, out)
    wrong = []

    def switch(ref):
        out = resident.buffer()
        for _ in range(30):
            resident.write(ref, out)
            if not torch.equal(out, right[ref]):
                wrong.append(ref)

    threads = [threading.Thread(target=switch, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_what_makes_no_sense_is_refused(four):
    for settings, says in (
        ({}, "nothing to serve"),
        ({"refs": ["sql@1"], "form": "rmm"}, "needs a basis"),
        ({"refs": ["sql@1"], "form": "best"}, "form 'best'"),
        ({"refs": ["sql@1"], "store": "int3"}, "store 'int3'"),
        ({"refs": ["sql@1"], "dtype": "int8"}, "dtype 'int8'"),
        ({"refs": ["sql@1"], "budget": "lots"}, "budget is 'lots'"),
        ({"refs": ["sql@1"], "backend": "fast"}, "backend 'fast'"),
        ({"refs": "sql@1"}, "a list of references is expected"),
    ):
        with pytest.raises(UsageError, match=says):
            four.serving(settings.pop("refs", ()), **settings)
    with pytest.raises(UsageError, match="got 1 adapters and 2 buffers"):
        resident = four.serving(["sql@1"])
        resident.write_many(["sql@1"], [resident.buffer()] * 2)
