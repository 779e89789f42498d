"""Directories for servers, their flags, and adapters that they could not serve, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapterbank.cli.documents.servers import LoadedDocument
from tests.adapters import write_adapter
from tests.bank.variants import with_dora
from tests.cli.conforming import faults
from tests.cli.conftest import Run
from tests.sglang import sglang as sglang

LLAMA = {"model.layers.0.self_attn.q_proj": (16, 12), "model.layers.0.mlp.down_proj": (12, 20)}


def llama(run: Run, folder: Path, name: str, **how: object) -> None:
    run("register", write_adapter(folder / name, LLAMA, base_model="meta/llama", **how), "--name", name)  # type: ignore[arg-type]


def test_several_versions_are_written_and_a_second_time_left_alone(run: Run, tmp_path: Path):
    llama(run, tmp_path, "l1", rank=4)
    llama(run, tmp_path, "l2", rank=6, alpha=3)
    words = ("materialize", "l1@1", "l2", tmp_path / "out", "--for", "vllm", "--json")
    first, again = run(*words).json["directories"], run(*words).json["directories"]
    assert [(made["ref"], made["status"], made["rank"], made["error"]) for made in first] == [
        ("l1@1", "written", 4, 0.0),
        ("l2@1", "written", 6, 0.0),
    ]
    assert [made["status"] for made in again] == ["unchanged", "unchanged"]
    for made in first:
        fields = json.loads((Path(made["path"]) / "adapter_config.json").read_text())
        assert fields["r"] == fields["lora_alpha"] == made["rank"]
    assert "l2@1" in run("materialize", "l2", tmp_path / "out").out
    refused = run("materialize", "sql@1", tmp_path / "no", "--for", "sglang", "--json")
    assert refused.code == 12 and "not query" in refused.error["message"] and not (tmp_path / "no").exists()


def test_flags_name_the_rank_and_the_bank(run: Run, tmp_path: Path):
    llama(run, tmp_path, "l1", rank=24)
    flags = run("launch-flags", "l1", "--for", "vllm", "--json").json
    assert flags["rank"] == 32 and flags["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert flags["flags"][:3] == ["vllm", "serve", "meta/llama"] and "--max-lora-rank 32" in flags["line"]
    text = run("launch-flags", "l1", "--for", "sglang").out
    assert "--lora-target-modules down_proj q_proj" in text and "--max-lora-rank 24" in text
    assert run("launch-flags", "l1", "sql", "--for", "lorax").code == 12


def test_a_base_model_that_lies_in_a_folder_is_started_from_there(run: Run, tmp_path: Path):
    llama(run, tmp_path, "l1")
    for empty in ("a", "z"):
        run("model", "alias", "meta/llama", tmp_path / empty)
    assert run("launch-flags", "l1", "--for", "vllm", "--json").json["flags"][2] == "meta/llama"
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "config.json").write_text("{}")
    for server, flag in (("vllm", "serve"), ("sglang", "--model-path"), ("lorax", "--model-id")):
        flags = run("launch-flags", "l1", "--for", server, "--json").json["flags"]
        assert flags[flags.index(flag) + 1] == str(tmp_path / "z")
    assert "vllm serve other " in run("launch-flags", "l1", "--for", "vllm", "--model", "other").out


def test_what_a_server_could_not_serve_is_refused_at_registration_and_leaves_nothing(run: Run, tmp_path: Path):
    folder = with_dora(write_adapter(tmp_path / "dora", LLAMA))
    refused = run("register", folder, "--name", "dora", "--for", "vllm", "--json")
    assert refused.code == 7
    assert {problem["code"] for problem in refused.error["details"]} >= {"server_kind", "server_tensor"}
    assert run("show", "dora").code == 3
    lines = run("register", folder, "--name", "dora", "--for", "vllm").err.splitlines()
    count = int(lines[0].split(", ")[1].split()[0])
    assert sum(line.startswith("  [") for line in lines) == count, "notes are told, not counted"
    told = run("register", write_adapter(tmp_path / "wide", LLAMA, rank=24), "--name", "wide", "--for", "vllm")
    assert told.code == 0 and "--max-lora-rank 32" in told.err
    assert run("register", folder, "--name", "dora", "--for", "peft").code == 0


def test_a_running_sglang_is_told_to_load(run: Run, tmp_path: Path, sglang: Any):
    address, seen, says = sglang
    llama(run, tmp_path, "l1")
    loaded = run("load", "l1", tmp_path / "out", "--url", address, "--pinned", "--json").json
    assert faults(LoadedDocument, loaded) == []
    path = str(tmp_path / "out" / "l1@1")
    assert loaded == {"ref": "l1@1", "name": "l1@1", "path": path, "server": address}
    assert seen == [("/load_lora_adapter", {"lora_name": "l1@1", "lora_path": path, "pinned": True})]
    assert "l1@1 is loaded in" in run("load", "l1", tmp_path / "out", "--url", address).out
    says.append((400, {"error_message": "too large"}))
    refused = run("load", "l1", tmp_path / "out", "--url", address, "--json")
    assert refused.code == 16 and "too large" in refused.error["message"]
