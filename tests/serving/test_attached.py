"""A PEFT model that looks into a buffer gives the logits of ``PeftModel.from_pretrained`` on the original directories."""

import threading
from contextlib import suppress
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from adapterbank import Bank
from adapterbank.errors import IncompatibleError, NotFoundError, UsageError
from adapterbank.integrations import peft as integration
from tests.serving.llama import NAMES, base, empty, loaded_logits, logits, write_adapters

NEAR = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A bank of four adapters with their fixed-width forms, and the logits of each from its own directory."""
    root = tmp_path_factory.mktemp("attached")
    folders = write_adapters(root / "in")
    with Bank.open(root / "bank", create=True) as bank:
        for name, folder in folders.items():
            bank.register(folder, name=name, base_model="tiny/llama")
            bank.encode(name, max_error=0.02, codec="fixed")
        bank.set_alias("sql", "prod", 1)
        bank.serving = partial(bank.serving, backend="reference")
        yield bank, {name: loaded_logits(folder) for name, folder in folders.items()}


@pytest.fixture
def resident(known):
    return known[0].serving([f"{name}@1" for name in NAMES], form="raw")


def test_every_adapter_gives_its_logits_over_hundreds_of_switches(known, resident):
    model = empty()
    attached = resident.attach(model)
    addresses = {name: parameter.data_ptr() for name, parameter in model.named_parameters() if "lora_" in name}
    for step in range(300):
        name = NAMES[(step * step + step // 7) % 4]
        resident.activate(f"{name}@1" if step % 2 else name)
        if step % 10 == 0:
            torch.testing.assert_close(logits(model), known[1][name], **NEAR)
    assert attached.version == f"{name}@1"
    assert addresses == {name: parameter.data_ptr() for name, parameter in model.named_parameters() if "lora_" in name}


def test_a_coded_form_is_near(known):
    bank, right = known
    resident = bank.serving([f"{name}@1" for name in NAMES], form="fixed")
    model = empty()
    resident.attach(model)
    for name in NAMES:
        resident.activate(f"{name}@prod" if name == "sql" else name)
        off = logits(get_peft_model(base(), LoraConfig(target_modules=["q_proj"])).eval())
        error = (logits(model) - right[name]).norm() / (right[name] - off).norm()
        assert error < 0.1


def test_a_module_that_an_adapter_lacks_is_exact_zeros(resident):
    model = empty()
    resident.attach(model)
    resident.activate("sql")
    resident.activate("law")
    for name, parameter in model.named_parameters():
        if "lora_" in name and ("down_proj" in name or "o_proj" in name):
            assert not parameter.any()


def test_four_threads_never_see_anothers_logits(known, resident):
    resident.attach(empty())
    assert not _strangers(resident, known[1])


def test_two_slots_share_the_weights_and_serve_two_at_once(known, resident):
    attached = resident.attach(empty(), slots=2)
    with attached.using("sql") as first, attached.using("math") as second:
        assert first is not second
        torch.testing.assert_close(logits(first), known[1]["sql"], **NEAR)
        torch.testing.assert_close(logits(second), known[1]["math"], **NEAR)
        shared = dict(second.named_parameters())
        assert all((parameter is shared[name]) != ("lora_" in name) for name, parameter in first.named_parameters())
    written = resident.statistics().written
    with attached.using("math") as again:
        assert again is second
    assert resident.statistics().written == written, "it was there already"
    assert not _strangers(resident, known[1])


def test_without_the_lock_threads_do_see_anothers_logits(known, resident, monkeypatch):
    """The test above can fail: with slots handed out to everybody it does."""
    attached = resident.attach(empty())
    monkeypatch.setattr(attached._turns, "take", lambda among, wanted: among[0])
    monkeypatch.setattr(attached._turns, "give_back", lambda slot: None)
    assert _strangers(resident, known[1])


def _strangers(resident, right, rounds=25):
    """Names whose thread saw logits that are not theirs. All threads are inside the block together where nothing keeps them."""
    wrong, meet = [], threading.Barrier(len(NAMES))

    def serve(name):
        for _ in range(rounds):
            with suppress(threading.BrokenBarrierError):  # the others wait for this one's slot: that is what the lock does
                meet.wait(0.2)
            with resident.using(name) as model:
                if not torch.allclose(logits(model), right[name], **NEAR):
                    wrong.append(name)

    threads = [threading.Thread(target=serve, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return wrong


def test_a_compiled_model_goes_on_without_compiling_again(known, resident):
    model = empty()
    resident.attach(model)
    compiles = []

    def counting(graph, inputs):
        compiles.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=counting)
    resident.activate("sql")
    torch.testing.assert_close(logits(compiled), known[1]["sql"], **NEAR)
    before = len(compiles)
    for name in NAMES * 2:
        resident.activate(name)
        torch.testing.assert_close(logits(compiled), known[1][name], **NEAR)
    assert len(compiles) == before > 0


def test_a_failed_switch_leaves_no_adapter_behind(known, resident):
    attached = resident.attach(empty())
    resident.activate("sql")
    with pytest.raises(NotFoundError):
        resident.activate("nobody")
    with attached.using("sql") as model:
        torch.testing.assert_close(logits(model), known[1]["sql"], **NEAR)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"r": 2, "target_modules": ["q_proj", "v_proj", "down_proj"]}, "of rank 2$"),
        ({"r": 8, "target_modules": ["q_proj"]}, "no place for module"),
        ({"r": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": True}, "uses DoRA"),
        ({"r": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "lora_bias": True}, "has a LoRA bias"),
    ],
)
def test_models_that_do_not_fit_are_refused(resident, config, says):
    with pytest.raises(IncompatibleError, match=says):
        resident.attach(get_peft_model(base(), LoraConfig(**config)))


def test_what_is_no_peft_model_is_refused(resident):
    with pytest.raises(UsageError, match="no LoRA layer with an adapter 'default'"):
        resident.attach(base())
    with pytest.raises(UsageError, match="no model is attached"):
        resident.activate("sql")
    with pytest.raises(UsageError, match="slots: got 0"):
        resident.attach(empty(), slots=0)


def test_state_dict_and_config_load_by_peft(known, resident):
    config = integration.lora_config(resident, "art")
    model = get_peft_model(base(), config).eval()
    for name in NAMES:
        told = set_peft_model_state_dict(model, integration.state_dict(resident, name))
        assert not told.unexpected_keys
        torch.testing.assert_close(logits(model), known[1][name], **NEAR)


def test_hotswap_by_peft(known, resident):
    model = get_peft_model(base(), integration.lora_config(resident, "sql")).eval()
    for name in (*NAMES, "sql"):
        integration.hotswap(resident, model, name)
        torch.testing.assert_close(logits(model), known[1][name], **NEAR)


def test_nobody_is_passed_over(resident):
    """Who leaves the slot and asks again comes after those that wait."""
    attached, order = resident.attach(empty()), []

    def serve(name):
        for _ in range(5):
            with attached.using(name):
                order.append(name)
                while len(attached._turns._line) < 3 and not finished(order):
                    threading.Event().wait(0.001)

    def finished(order):
        return any(order.count(name) == 5 for name in NAMES)

    threads = [threading.Thread(target=serve, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first = order[:16]
    assert all(set(first[i : i + 4]) == set(NAMES) for i in range(0, 16, 4))


def test_a_thread_inside_a_block_gets_its_slot_again_or_is_told_so(known, resident):
    attached = resident.attach(empty())
    with attached.using("sql") as model:
        with attached.using("sql@1") as again:
            assert again is model
        attached.activate("sql@prod")
        with pytest.raises(UsageError, match="this thread holds the slot already"):
            attached.activate("math")
        with pytest.raises(UsageError, match="this thread holds the slot already"), attached.using("math"):
            pass
        torch.testing.assert_close(logits(model), known[1]["sql"], **NEAR)
    attached.activate("math")
    torch.testing.assert_close(logits(attached.model), known[1]["math"], **NEAR)


def test_several_models_of_unlike_widths_are_attached(known, resident):
    narrow, wide = get_peft_model(base(), LoraConfig(r=6, target_modules=["q_proj", "v_proj", "down_proj"])).eval(), empty()
    own = resident.layout
    first, second = resident.attach(narrow), resident.attach(wide)
    assert resident.layout == own
    for name, other in (("sql", "math"), ("law", "art"), ("math", "sql")):
        first.activate(name)
        second.activate(other)
        torch.testing.assert_close(logits(narrow), known[1][name], **NEAR)
        torch.testing.assert_close(logits(wide), known[1][other], **NEAR)
    resident.write("sql", resident.buffer())


def test_a_refused_model_changes_nothing(known, resident):
    attached = resident.attach(empty())
    for model in (empty().to("meta"), get_peft_model(base(), LoraConfig(r=2, target_modules=["q_proj"])), base(), None):
        with pytest.raises((UsageError, IncompatibleError)):
            resident.attach(model)
    resident.activate("art")
    assert attached.version == "art@1"
    torch.testing.assert_close(logits(attached.model), known[1]["art"], **NEAR)


def test_a_shard_is_not_attached_to_a_whole_model(known):
    resident = known[0].serving(["sql@1"], form="raw", shard=(0, 2))
    with pytest.raises(IncompatibleError, match="one worker's shard"):
        resident.attach(empty())
    assert not resident.layout.whole


def test_after_a_refresh_a_slot_gets_what_is_served_now(tmp_path):
    with Bank.open(tmp_path / "bank", create=True) as bank:
        folders = write_adapters(tmp_path / "in")
        bank.register(folders["sql"], name="sql", base_model="tiny/llama")
        resident = bank.serving(["sql"], backend="reference")
        attached = resident.attach(empty())
        attached.activate("sql")
        exact = logits(attached.model)
        bank.encode("sql@1", codec="fixed", quality="small")
        with attached.using("sql") as model:
            torch.testing.assert_close(logits(model), exact)
        resident.refresh()
        with attached.using("sql") as model:
            coded = logits(model)
        assert not torch.allclose(coded, exact, **NEAR)
        other = bank.serving(["sql"], form="fixed", backend="reference").attach(empty())
        other.activate("sql")
        assert torch.equal(logits(other.model), coded)


def test_a_model_over_a_basis_shares_the_one_that_is_resident(tmp_path):
    with Bank.open(tmp_path / "bank", create=True) as bank:
        for name, folder in write_adapters(tmp_path / "in").items():
            bank.register(folder, name=name, base_model="tiny/llama")
        bank.build_basis("b", ["sql@1", "law@1"], components=1, codec="rmm", force=True)
        resident = bank.serving(basis="b", form="rmm", backend="reference")
        attached = resident.attach(empty())
        assert attached.resident.layout != resident.layout
        for name in ("sql", "law"):
            attached.activate(name)
            found, wanted = attached.resident.factors(name), resident.factors(name)
            for module, each in wanted.items():
                torch.testing.assert_close(found[module].B @ found[module].A, each.B @ each.A)
        one, other = resident.now.source, attached.resident.now.source
        assert one._basis is other._basis
        x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
        module = "model.layers.1.self_attn.q_proj"
        torch.testing.assert_close(
            attached.resident.apply(module, x, ["sql", "law", "sql"]), resident.apply(module, x, ["sql", "law", "sql"])
        )


def test_a_merged_model_is_not_switched(known, resident):
    model = empty()
    attached = resident.attach(model, slots=2)
    attached.activate("sql")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model.merge_adapter()
    for switch in (lambda: attached.activate("math"), lambda: attached.using("sql").__enter__()):
        with pytest.raises(IncompatibleError, match="are merged into their base"):
            switch()
    model.unmerge_adapter()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=1e-5, atol=1e-6)
    attached.activate("math")
    torch.testing.assert_close(logits(model), known[1]["math"], rtol=1e-3, atol=1e-4)


def test_what_is_pinned_or_brought_is_what_the_model_needs(resident):
    resident.attach(empty())
    resident.pin("sql")
    resident.prefetch("math")
    resident.activate("sql")
    resident.activate("math")
    assert (resident.statistics().loaded, resident.statistics().hits) == (2, 2)
    resident.unpin("sql")


def test_state_dict_and_config_are_the_residents_own(known, resident):
    config = resident.lora_config("sql")
    assert (config.r, config.lora_alpha, config.task_type) == (6, 6, None) and not config.use_rslora
    ranks = {key: len(value) for key, value in resident.state_dict("art").items() if "lora_A" in key}
    assert set(ranks.values()) == {6} and len(ranks) == 6
    with pytest.raises(NotFoundError):
        resident.lora_config("nobody")
