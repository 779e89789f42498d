"""The example's own data as tasks of a calibration, and the methods that learn from it on the real adapters."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from adapterbank.calibration.attached import attached
from adapterbank.calibration.fisher import fisher
from adapterbank.calibration.gram import gram
from adapterbank.calibration.tasks import Setting
from adapterbank.demo.evaluate import read_head, read_sentences
from adapterbank.demo.tasks import sentence_setting, skills_of
from adapterbank.errors import NotFoundError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta
from adapterbank.merge import merge
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.least_squares import unpacked

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "minilm"
SKILLS = ["home", "meta"]


def hook(path: Path) -> ModuleType:
    """A file loaded by its path, as the command line does."""
    spec = spec_from_file_location("hook", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example() -> Setting:
    return hook(EXAMPLES / "tasks.py").setting(["home@1", "meta"])


def load(skill: str, only: str = "") -> Adapter:
    """The example's adapter, or the part of it whose modules' names hold ``only``."""
    config = json.loads((EXAMPLES / "adapters" / skill / "adapter_config.json").read_text())
    tensors = load_file(EXAMPLES / "adapters" / skill / "adapter_model.safetensors")
    keys = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight") and only in key]
    return Adapter(
        {
            key.removeprefix("base_model.model."): Factors(
                tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"], config["lora_alpha"] / config["r"]
            )
            for key in keys
        }
    )


def answers(setting: Setting, halves: dict, adapter: Adapter) -> tuple[int, int]:
    right = seen = 0
    with attached(setting.model, [adapter], torch.ones(1, len(adapter.modules))), torch.no_grad():
        for task in halves.values():
            for batch in task.batches:
                right += int((task.outputs(setting.model, batch).argmax(1) == batch["labels"]).sum())
                seen += len(batch["labels"])
    return right, seen


def test_every_reference_has_two_halves_without_a_sentence_in_common(example: Setting) -> None:
    assert list(example.tasks) == list(example.held_out) == ["home@1", "meta"]
    for ref in example.tasks:
        halves = [
            {
                (tuple(ids.tolist()), int(label))
                for b in task.batches
                for ids, label in zip(b["input_ids"], b["labels"], strict=True)
            }
            for task in (example.tasks[ref], example.held_out[ref])
        ]
        stripped = [{(tuple(i for i in ids if i), label) for ids, label in half} for half in halves]
        assert [len(half) for half in stripped] == [23, 22]
        assert not stripped[0] & stripped[1]


def test_attached_adapters_answer_their_own_skill(example: Setting) -> None:
    for ref, skill in zip(example.held_out, SKILLS, strict=True):
        right, seen = answers(example, {ref: example.held_out[ref]}, load(skill))
        assert right / seen > 0.8  # 1/15 by chance


def test_regmean_answers_more_like_the_adapters_than_their_average_on_sentences_held_out(example: Setting) -> None:
    adapters, names = [load(skill, "attention.self") for skill in SKILLS], ["a" * 64, "b" * 64]
    learned, judged = gram(example, adapters, names), gram(Setting(example.model, example.held_out), adapters, names)
    assert len(learned[0].modules) == 18
    assert len(learned[0].tensors) == 6  # query, key and value of a layer see the same
    weights = [1.0, 1.0]

    def distance(method: str) -> float:
        merged = merge(method, adapters, weights, names=names, rank=16, conditions=Conditions(artefacts=learned)).adapter
        lost = 0.0
        for adapter, own in zip(adapters, judged, strict=True):
            for module, f in adapter.modules.items():
                m = merged.modules[module]
                D = delta(m) - delta(f)
                lost += float(((D @ unpacked(own.of(module), f.d_in).double()) * D).sum())
        return lost

    assert distance("regmean") < 0.9 * distance("average")


def test_fisher_wins_its_own_quadratic_on_sentences_held_out(example: Setting) -> None:
    adapters, names = [load(skill, "layer.5.attention.self") for skill in SKILLS], ["a" * 64, "b" * 64]
    learned, judged = (
        fisher(setting, adapters, names, classes=classes)
        for setting, classes in ((example, "expected"), (Setting(example.model, example.held_out), "given"))
    )
    sizes = [sum(float(own.of(m).square().sum()) for m in own.modules) ** 0.5 for own in judged]

    def distance(method: str) -> float:
        merged = merge(method, adapters, [1.0, 1.0], names=names, rank=32, conditions=Conditions(artefacts=learned)).adapter
        return sum(
            float((own.of(m) / size * (delta(merged.modules[m]) - delta(f)).square()).sum())
            for adapter, own, size in zip(adapters, judged, sizes, strict=True)
            for m, f in adapter.modules.items()
        )

    assert distance("fisher") < 0.9 * distance("average")


def test_the_halves_follow_the_seed() -> None:
    sentences = read_sentences(EXAMPLES / "sentences.jsonl", SKILLS)

    def first(seed: int) -> list:
        made = sentence_setting(
            {"home": "home"}, sentences, lambda skill: read_head(EXAMPLES / "heads" / f"{skill}.safetensors"), seed=seed
        )
        return made.tasks["home"].batches[0]["input_ids"].tolist()

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_references_say_the_skill() -> None:
    assert skills_of(["home", "meta@2", "work@best"]) == {"home": "home", "meta@2": "meta", "work@best": "work"}
    with pytest.raises(UsageError, match=r"sha256:0123456789.*by name"):
        skills_of(["home", "sha256:0123456789"])
    with pytest.raises(NotFoundError, match="travel"):
        sentence_setting({"travel": "travel"}, {}, lambda skill: read_head(EXAMPLES / "heads" / f"{skill}.safetensors"))


def test_a_folder_of_data_and_heads_is_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "sentences.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "home.test.jsonl").write_text(
        "".join(json.dumps({"a": row["text"], "label": row["label"]}) + "\n" for row in rows if row["skill"] == "home")
    )
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "small").symlink_to(EXAMPLES / "heads")
    setting = hook(ROOT / "benchmarks" / "merging" / "tasks.py").setting
    monkeypatch.setenv("ADAPTERBANK_DATA", str(tmp_path))
    with pytest.raises(NotFoundError, match=r"home\.safetensors"):
        setting(["home"])
    monkeypatch.setenv("ADAPTERBANK_HEADS", "small")
    right, seen = answers(made := setting(["home"]), made.held_out, load("home"))
    assert seen == 22
    assert right / seen > 0.8
    monkeypatch.setenv("ADAPTERBANK_DATA", str(tmp_path / "data"))
    with pytest.raises(UsageError, match="expected a folder with data/ and heads/"):
        setting(["home"])
