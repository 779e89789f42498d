"""Opening a directory: two regular files, nothing followed, everything else listed or named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapterbank.errors import NotFoundError, RefusedInputError
from adapterbank.peft_format.source import open_directory
from tests.peft_format.build import config, llama, weights


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_bytes(config())
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(weights(llama()))
    return tmp_path / "a"


def codes(path):
    with pytest.raises(RefusedInputError) as refused:
        open_directory(path)
    return {problem.code for problem in refused.value.problems}


def test_both_files_are_handed_over_and_the_others_listed(folder):
    (folder / "README.md").write_text("hello")
    (folder / "checkpoint-10").mkdir()
    (folder / "adapter_model.bin").write_bytes(b"never read")
    with open_directory(folder) as source:
        assert source.config == config()
        assert source.weights.read() == weights(llama())
        assert source.weights_size == len(weights(llama()))
    assert source.not_kept == ("README.md", "adapter_model.bin", "checkpoint-10/")
    assert source.weights.closed


def test_a_missing_directory(tmp_path):
    with pytest.raises(NotFoundError):
        open_directory(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_link_is_not_followed(folder, name):
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    assert codes(folder) == {"symlink"}


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_pipe_does_not_make_us_wait(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert codes(folder) == {"not_a_file"}


def test_a_folder_in_place_of_a_file(folder):
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").mkdir()
    assert codes(folder) == {"not_a_file"}


def test_sizes_are_looked_at_before_reading(folder):
    with (folder / "adapter_config.json").open("wb") as file:
        file.truncate(1 << 40)
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    assert codes(folder) == {"config_too_large", "weights_too_large"}


def test_what_is_missing_is_named(tmp_path):
    assert codes(tmp_path) == {"no_config", "no_weights"}
    (tmp_path / "adapter_config.json").write_bytes(config())
    assert codes(tmp_path) == {"no_weights"}


@pytest.mark.parametrize(
    ("name", "code"),
    [("x.gguf", "gguf"), ("pytorch_model.bin", "full_model"), ("adapter.pt", "pickle"), ("notes.txt", "not_a_directory"),
     ("pytorch_lora_weights.safetensors", "diffusers"), ("model-00001-of-00002.safetensors", "sharded")],
)  # fmt: skip
def test_a_file_is_recognised_by_its_name(tmp_path, name, code):
    (tmp_path / name).write_bytes(b"")
    assert codes(tmp_path / name) == {code}


def test_a_nested_adapter_is_found_and_named(tmp_path, folder):
    with pytest.raises(RefusedInputError, match="a/: adapters"):
        open_directory(tmp_path)


def test_the_open_files_are_closed_when_refused(folder):
    before = {path.name for path in Path("/dev/fd").iterdir()}
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to("/etc/passwd")
    codes(folder)
    assert {path.name for path in Path("/dev/fd").iterdir()} == before
