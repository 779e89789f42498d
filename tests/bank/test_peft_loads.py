"""What the bank writes (exports, reconstructions, merges) loads in PEFT and computes with the ΔW that it claims."""

from __future__ import annotations

import warnings

import pytest
import torch

from adapterbank.lora.delta import delta
from tests.bank import dense
from tests.peft_format.models import SETTINGS

BARE = ["mixed ranks", "Conv1D", "convolutions", "embedding"]
KINDS = [*BARE, "classifier", "new tokens"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(params=KINDS)
def trained(request, bank, tmp_path):
    """The setting, and its PEFT models by the name they are registered under: ``one`` and ``two``."""
    setting, models = SETTINGS[request.param], {}
    for seed, name in enumerate(("one", "two"), start=1):
        models[name] = setting.adapter(seed)
        models[name].save_pretrained(tmp_path / "in" / name)
        bank.register(tmp_path / "in" / name, name=name, base_model="tiny/model")
    return setting, models


def deltas_in(model):
    """ΔW by module as PEFT computes it."""
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "get_delta_weight") and layer.scaling}
    return {name: layer.get_delta_weight("default").detach().double().numpy() for name, layer in layers.items()}


def loaded(setting, directory):
    from peft import PeftModel

    return PeftModel.from_pretrained(setting.model(), directory).eval()


def test_exports_and_reconstructions_compute_what_they_claim(bank, trained, tmp_path):
    setting, models = trained
    bank.build_basis("exact", ["one", "two"], components=8, force=True)
    bank.build_basis("mean", ["one", "two"], components=0, force=True)
    for name, model in models.items():
        bank.export(name, tmp_path / "export" / name)
        bank.write_reconstruction(name, tmp_path / "exact" / name, basis="exact")
        for kind in ("export", "exact"):
            found = setting.output(loaded(setting, tmp_path / kind / name))
            torch.testing.assert_close(found, setting.output(model), rtol=1e-4, atol=1e-5)
        written = bank.write_reconstruction(name, tmp_path / "mean" / name, basis="mean")
        lossy = deltas_in(loaded(setting, tmp_path / "mean" / name))
        assert dense.distance(lossy, deltas_in(model)) == pytest.approx(written.error, rel=1e-4) and written.error > 0.1
        values = bank.reconstruct(name, basis="mean")
        assert sum(float(delta(f).square().sum()) for f in values.modules.values()) == pytest.approx(
            sum((value**2).sum() for value in lossy.values()), rel=1e-5
        )


@pytest.mark.parametrize("codec", ["rd", "fixed"])
def test_coded_forms_compute_what_they_claim(bank, trained, tmp_path, codec):
    setting, models = trained
    made = bank.encode("one", max_error=0.5, codec=codec)
    written = bank.write_reconstruction("one", tmp_path / "one")
    found = deltas_in(loaded(setting, tmp_path / "one"))
    assert dense.distance(found, deltas_in(models["one"])) == pytest.approx(written.error, rel=1e-4)
    assert 0 < written.error == made.form.error <= 0.5


@pytest.mark.parametrize("trained", BARE, indirect=True)
def test_a_merge_computes_the_sum_it_claims(bank, trained, tmp_path):
    setting, models = trained
    bank.merge("cat", {"one": 1.0, "two": -0.5}, name="m")
    bank.export("m", tmp_path / "m")
    each = [deltas_in(model) for model in models.values()]
    wanted = {name: each[0][name] - 0.5 * each[1][name] for name in each[0]}
    assert dense.distance(deltas_in(loaded(setting, tmp_path / "m")), wanted) < 1e-6
