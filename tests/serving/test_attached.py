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
