"""What PEFT saved is read as it meant it, and what we write PEFT loads with the same outputs."""

from __future__ import annotations

import json
import os
import warnings

import pytest
import torch

from adapterbank.lora.delta import delta
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.reader import read
from adapterbank.peft_format.writer import encode, write_directory
from tests.peft_format.models import SETTINGS

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="module", autouse=True)
def quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=SETTINGS, scope="module")
def saved(request, tmp_path_factory):
    """(setting, PEFT model, configuration, weights) of an adapter as PEFT saves it."""
    setting = SETTINGS[request.param]
    model = setting.adapter()
    directory = tmp_path_factory.mktemp("peft")
    model.save_pretrained(directory)
    config, weights = (directory / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    return setting, model, config.read_bytes(), weights.read_bytes()


def test_the_adapter_is_inspected_without_an_error(saved):
    _, _, config, weights = saved
    inspection = inspect(config, weights)
    assert {problem.code for problem in inspection.problems if problem.severity == "warning"} <= {"target_without_tensors"}
    assert inspection.facts.modules == read(config, weights).shapes


def test_deltas_are_those_of_peft(saved):
    """ΔW by our reading against ``get_delta_weight`` of PEFT's own layers."""
    _, model, config, weights = saved
    adapter, compared = read(config, weights), 0
    layers = {name.removeprefix("base_model.model."): layer for name, layer in model.named_modules()}
    for name, factors in adapter.modules.items():
        owner, _, expert = name.partition("[")
        layer = layers[owner]
        wanted = layer.get_delta_weight("default").detach().double()
        if expert:
            wanted = wanted[int(expert[:-1])]
        got = delta(factors)
        if factors.kind == "embedding" or getattr(layer, "fan_in_fan_out", False):
            got = got.T
        torch.testing.assert_close(got.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-6)
        compared += 1
    assert compared == len(adapter.modules) > 0


def test_the_written_directory_loads_with_the_same_outputs(saved, tmp_path):
    setting, model, config, weights = saved
    files = encode(read(config, weights), config, dtype=torch.float32, marks={"error": 0.0})
    write_directory(tmp_path / "out", files)
    assert (tmp_path / "out" / "adapterbank.json").exists()
    torch.testing.assert_close(setting.loaded(tmp_path / "out"), setting.output(model), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(setting.output(model), setting.output(setting.model()), atol=1e-4), "the adapter does nothing"


def test_peft_finds_every_tensor_and_no_other(saved, tmp_path):
    """No key is missing or unexpected, and exactly the modules with factors are adapted."""
    from peft import PeftModel
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    setting, model, config, weights = saved
    write_directory(tmp_path / "out", encode(read(config, weights), config, dtype=torch.float32))
    loaded = PeftModel.from_pretrained(setting.model(), tmp_path / "out")
    assert _adapted(loaded) == _adapted(model)
    result = set_peft_model_state_dict(loaded, load_peft_weights(str(tmp_path / "out"), device="cpu"))
    assert result.unexpected_keys == []
    assert not [key for key in result.missing_keys if "lora_" in key]


def test_what_was_written_reads_back_the_same(saved):
    """Our own reading of our own writing: the same ΔW, scaling 1, the same carried tensors; and a fixed point."""
    _, _, config, weights = saved
    adapter = read(config, weights)
    files = encode(adapter, config, dtype=torch.float32)
    again = read(files["adapter_config.json"], files["adapter_model.safetensors"])
    assert {factors.scaling for factors in again.modules.values()} == {1.0}
    assert again.shapes == adapter.shapes
    assert list(again.extras) == list(adapter.extras)
    for name, factors in adapter.modules.items():
        torch.testing.assert_close(delta(again.modules[name]), delta(factors), rtol=1e-6, atol=1e-7)
    assert encode(again, files["adapter_config.json"], dtype=torch.float32) == files
    fields = json.loads(files["adapter_config.json"])
    assert fields["r"] == fields["lora_alpha"] and fields["lora_dropout"] == 0 and fields["init_lora_weights"] is True


def _adapted(model) -> set[str]:
    return {name for name, module in model.named_modules() if hasattr(module, "lora_A") and module.scaling}
