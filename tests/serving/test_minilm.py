"""The real adapters of the examples on their real encoder: what a switched model says is what PEFT says of each directory."""

import pytest
import torch

from adapterbank import Bank
from adapterbank.demo.encoder import model_folder
from tests.demo.test_examples import EXAMPLES

ADAPTERS = EXAMPLES / "adapters"
NAMES = ("banking", "home", "work")


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(1000, 20000, (3, 9), generator=torch.Generator().manual_seed(2))


def features(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state


def test_features_are_those_of_the_original_directories(tmp_path, tokens):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModel

    def encoder():
        return AutoModel.from_pretrained(model_folder(), local_files_only=True)

    with Bank.open(tmp_path / "bank", create=True) as bank:
        for name in NAMES:
            bank.register(ADAPTERS / name, name=name)
        resident = bank.serving([f"{name}@1" for name in NAMES], form="raw", backend="reference")
        model = get_peft_model(encoder(), LoraConfig(r=16, target_modules=["query", "key", "value", "dense"])).eval()
        resident.attach(model)
        right = {name: features(PeftModel.from_pretrained(encoder(), str(ADAPTERS / name)).eval(), tokens) for name in NAMES}
        assert not torch.allclose(right["banking"], right["home"], atol=1e-2)
        for name in NAMES * 3:
            resident.activate(name)
            torch.testing.assert_close(features(model, tokens), right[name], rtol=1e-4, atol=1e-4)
