"""The folder examples/minilm: what it promises about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "minilm"
SKILLS = ["auto", "banking", "credit_cards", "home", "kitchen", "meta", "small_talk", "work"]


def labels_of(head: Path) -> list[str]:
    with safe_open(head, "numpy") as file:
        return list(json.loads(file.metadata()["labels"]))


def test_there_are_eight_skills_of_at_most_twelve_megabytes() -> None:
    assert sorted(path.name for path in (EXAMPLES / "adapters").iterdir()) == SKILLS
    assert sorted(path.stem for path in (EXAMPLES / "heads").iterdir()) == SKILLS
    files = [path for part in ("adapters", "heads") for path in (EXAMPLES / part).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 11_900_000


@pytest.mark.parametrize("skill", SKILLS)
def test_adapters_are_bfloat16_and_heads_have_a_name_for_each_class(skill: str) -> None:
    with safe_open(EXAMPLES / "adapters" / skill / "adapter_model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
        assert file.metadata() == {"format": "pt"}
    with safe_open(EXAMPLES / "heads" / f"{skill}.safetensors", "numpy") as file:
        assert file.get_slice("weight").get_shape() == [15, 384]
        assert file.get_slice("bias").get_shape() == [15]
    assert len(set(labels_of(EXAMPLES / "heads" / f"{skill}.safetensors"))) == 15


def test_sentences_are_three_for_each_intent_and_all_different() -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "sentences.jsonl").read_text(encoding="utf-8").splitlines()]
    intents = {(skill, intent) for skill in SKILLS for intent in labels_of(EXAMPLES / "heads" / f"{skill}.safetensors")}
    assert Counter((row["skill"], row["intent"]) for row in rows) == dict.fromkeys(intents, 3)
    assert len({row["text"].lower() for row in rows}) == len(rows) == 360
    for row in rows:
        assert labels_of(EXAMPLES / "heads" / f"{row['skill']}.safetensors")[row["label"]] == row["intent"]


def test_origins_are_named() -> None:
    text = " ".join((EXAMPLES / "README.md").read_text(encoding="utf-8").split())
    for origin in ("CLINC-150", "clinc/oos-eval", "CC BY 3.0", "Larson", "2019", "all-MiniLM-L6-v2", "Apache-2.0"):
        assert origin in text


def test_the_training_script_makes_an_adapter_and_a_head_that_the_demo_can_read(tmp_path: Path) -> None:
    rows = [{"text": f"{verb} the lamp", "label": label} for verb, label in (("light", "on"), ("kill", "off"))] * 4
    data = tmp_path / "lamp.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    script = [sys.executable, str(EXAMPLES / "train.py"), "lamp", "--train", str(data), "--test", str(data)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*script, "--out", str(tmp_path / "out"), "--rank", "2", "--epochs", "6", "--batch", "4"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy on 8 sentences" in done.stdout and "1.0000" in done.stdout
    config = json.loads((tmp_path / "out" / "adapters" / "lamp" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2" and config["r"] == 2
    assert labels_of(tmp_path / "out" / "heads" / "lamp.safetensors") == ["off", "on"]
