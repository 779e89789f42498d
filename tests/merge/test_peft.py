"""``cat`` and ``svd`` against PEFT's own, with α = r: there PEFT's scaling, which enters twice, is 1."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapterbank.lora.adapter import Adapter, Factors
from tests.merge.factories import deltas, distance, run

WEIGHTS = [0.7, 1.2]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(10, 14), torch.nn.ReLU(), torch.nn.Linear(14, 6))
    config = LoraConfig(r=3, lora_alpha=3, target_modules=["0", "2"], init_lora_weights=False)
    model = get_peft_model(base, config, adapter_name="one")
    model.add_adapter("two", config)
    for kind, settings in {"cat": {}, "svd": {"svd_rank": 4}}.items():
        model.add_weighted_adapter(["one", "two"], WEIGHTS, kind, combination_type=kind, **settings)
    return model


def layers(model):
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def read(model, name):
    return Adapter({m: Factors(layer.lora_A[name].weight, layer.lora_B[name].weight) for m, layer in layers(model).items()})


@pytest.mark.parametrize(("method", "rank"), [("cat", None), ("svd", 4)])
def test_the_deltas_are_those_of_peft(model, method, rank):
    merged = run(method, [read(model, "one"), read(model, "two")], WEIGHTS, rank=rank)
    theirs = {m: layer.get_delta_weight(method).detach().double().numpy() for m, layer in layers(model).items()}
    assert distance(deltas(merged.adapter), theirs) < 1e-6
