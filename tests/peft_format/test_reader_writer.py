"""Views into the file, and the bytes and directories we write."""

from __future__ import annotations

import json
import mmap
import os

import numpy as np
import pytest
import torch

from adapterbank.errors import ConflictError, RefusedInputError, StorageError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta
from adapterbank.peft_format import header
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.reader import read
from adapterbank.peft_format.writer import encode, write_directory
from tests.peft_format.build import PREFIX, Q, V, config, llama, pair, raw, weights
from tests.peft_format.features import EMBEDDING, EXPERTS, FEATURES

STACKS = {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}


def as_numpy(tensor):
    return tensor.double().numpy()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_values_are_those_of_the_file(dtype):
    tensors = {key: np.float32([[n * 0.5 for n in range(array.size)]]).reshape(array.shape) for key, array in llama().items()}
    adapter = read(config(lora_alpha=6), weights(tensors, dtype=dtype))
    assert list(adapter.modules) == [Q, V]
    for name, factors in adapter.modules.items():
        np.testing.assert_array_equal(as_numpy(factors.A), tensors[f"{PREFIX}{name}.lora_A.weight"])
        np.testing.assert_array_equal(as_numpy(factors.B), tensors[f"{PREFIX}{name}.lora_B.weight"])
        assert factors.scaling == 6 / 4
        assert (
            factors.A.dtype == {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
        )


def test_tensors_are_views_of_a_mapping(tmp_path):
    (tmp_path / "w").write_bytes(weights(llama()))
    with (tmp_path / "w").open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    adapter = read(config(), mapping)
    offset = header.parse(mapping).tensors[f"{PREFIX}{Q}.lora_A.weight"].begin
    mapping[offset : offset + 4] = np.float32(42).tobytes()
    assert adapter.modules[Q].A[0, 0] == 42
    assert (tmp_path / "w").read_bytes() == weights(llama()), "the file itself is untouched"


def test_a_header_of_odd_length_is_read_all_the_same():
    data = weights(llama())
    length = int.from_bytes(data[:8], "little")
    odd = raw(data[8 : 8 + length] + b" ", data[8 + length :])
    torch.testing.assert_close(read(config(), odd).modules[Q].A, read(config(), data).modules[Q].A)


def test_stacks_of_experts_against_the_einsum_of_peft():
    """``einsum("o r e, e r i -> e o i")`` over B ``(out, r, E)`` and A ``(E, r, in)``: ParamWrapper.get_delta_weight."""
    adapter = read(config(**STACKS), weights(EXPERTS))
    for name in ("model.layers.0.mlp.experts", "model.layers.0.mlp.experts.base_layer"):
        A, B = (np.float64(EXPERTS[f"{PREFIX}{name}.lora_{x}.weight"]) for x in "AB")
        wanted = np.einsum("ore,eri->eoi", B.reshape(B.shape[0], 4, 3), A.reshape(3, 4, -1)) * 2
        for e in range(3):
            np.testing.assert_allclose(delta(adapter.modules[f"{name}[{e}]"]).numpy(), wanted[e], rtol=1e-6)


def test_reading_refuses_what_inspection_refuses():
    with pytest.raises(RefusedInputError, match="rank_mismatch"):
        read(config(r=3), weights(llama()))


def written(adapter, template=None, **options):
    files = encode(adapter, template, dtype=options.pop("dtype", torch.float32), **options)
    return json.loads(files["adapter_config.json"]), files["adapter_model.safetensors"], files


def test_the_same_factors_give_the_same_bytes_in_any_order():
    adapter = read(config(), weights(llama()))
    other = read(config(), weights(llama(), order=sorted(llama(), reverse=True)))
    assert encode(adapter, dtype=torch.float32) == encode(other, dtype=torch.float32)


def test_the_bytes_are_pinned():
    factors = Factors(torch.ones(1, 2), torch.ones(3, 1) * 2, 0.5)
    _, data, _ = written(Adapter({"m": factors}))
    text = (
        b'{"__metadata__":{"format":"pt"},"base_model.model.m.lora_A.weight":{"dtype":"F32","shape":[1,2],'
        b'"data_offsets":[0,8]},"base_model.model.m.lora_B.weight":{"dtype":"F32","shape":[3,1],"data_offsets":[8,20]}}'
    )
    text += b" " * (-len(text) % 8)
    assert data == len(text).to_bytes(8, "little") + text + np.ones(5, "<f4").tobytes()


def test_the_library_reads_what_we_write():
    from safetensors.torch import load

    tensors = load(encode(read(config(), weights(llama())), dtype=torch.bfloat16)["adapter_model.safetensors"])
    assert set(tensors) == set(llama())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_scaling_is_folded_once_and_rounded_once():
    B = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    fields, data, files = written(Adapter({"m": Factors(torch.ones(4, 2), B, 1 / 3)}))
    assert fields["r"] == fields["lora_alpha"] == 4
    again = read(files["adapter_config.json"], data)
    assert again.modules["m"].scaling == 1.0
    assert torch.equal(again.modules["m"].B, (B.double() / 3).float())


def test_unlike_ranks_get_a_key_each():
    template = config(rank_pattern={"q_proj": 2})
    fields, _, files = written(read(template, weights({**pair(Q, 2), **pair(V, 4)})), template)
    assert fields["r"] == 4 and fields["rank_pattern"] == fields["alpha_pattern"] == {"^" + Q.replace(".", r"\."): 2}
    inspect(files["adapter_config.json"], files["adapter_model.safetensors"])


def test_targets_are_full_names_and_short_ones_when_there_are_too_many():
    fields, *_ = written(read(config(), weights(llama())))
    assert fields["target_modules"] == [Q, V]
    ones = Factors(torch.ones(1, 1), torch.ones(1, 1))
    many = Adapter({f"model.layers.{layer}.experts.{e}.down_proj": ones for layer in range(40) for e in range(64)})
    fields, _, files = written(many)
    assert fields["target_modules"] == ["down_proj"]
    assert inspect(files["adapter_config.json"], files["adapter_model.safetensors"]).facts.parameters == 2 * 40 * 64


def test_a_template_is_kept_where_its_tensors_are():
    for code in (
        "modules_to_save",
        "bias",
        "trainable_token_indices",
        "dora",
        "lora_bias",
        "alora",
        "qalora",
        "bdlora",
        "velora",
    ):
        files = FEATURES[code]()
        adapter = read(files["adapter_config.json"], files["adapter_model.safetensors"])
        _, _, again = written(adapter, files["adapter_config.json"])
        assert code in inspect(again["adapter_config.json"], again["adapter_model.safetensors"]).facts.cases
    fields, *_ = written(read(config(), weights(llama())), config(modules_to_save=["score"], task_type="SEQ_CLS", bias="all"))
    assert fields["modules_to_save"] is None and fields["task_type"] is None and fields["bias"] == "none"


def test_training_choices_are_neutral():
    template = config(lora_dropout=0.5, init_lora_weights="gaussian", layers_to_transform=[0], exclude_modules=["x"])
    fields, *_ = written(read(template, weights(llama())), template)
    assert fields["lora_dropout"] == 0 and fields["init_lora_weights"] is True
    assert "layers_to_transform" not in fields and "exclude_modules" not in fields


def test_an_absent_expert_is_zeros_and_a_short_one_is_padded():
    ones = Factors(torch.ones(2, 3), torch.ones(4, 2), kind="expert")
    short = Factors(torch.ones(1, 3), torch.ones(4, 1), kind="expert")
    template = config(target_parameters=["experts.down_proj"])
    _, _, files = written(Adapter({"experts[0]": ones, "experts[2]": short}), template)
    again = read(files["adapter_config.json"], files["adapter_model.safetensors"]).modules
    assert [float(delta(again[f"experts[{e}]"]).sum()) for e in range(3)] == [24.0, 0.0, 12.0]


def test_experts_need_a_template_unless_they_are_the_usual_two():
    adapter = read(config(**STACKS), weights(EXPERTS))
    fields, *_ = written(adapter)
    home = "model.layers.0.mlp.experts"
    assert fields["target_parameters"] == [f"{home}.down_proj", f"{home}.gate_up_proj"]
    alone = Adapter({name: factors for name, factors in adapter.modules.items() if "base_layer" not in name})
    with pytest.raises(UsageError, match="stacks of experts"):
        written(alone)


def test_values_that_do_not_fit_are_refused():
    huge = Adapter({"m": Factors(torch.ones(1, 2) * 1e5, torch.ones(3, 1))})
    with pytest.raises(UsageError, match="float16"):
        written(huge, dtype=torch.float16)


def test_embeddings_and_marks():
    _, data, files = written(read(config(), weights(EMBEDDING)), marks={"basis": "b1@2", "error": 0.25})
    assert set(header.parse(data).tensors) == set(EMBEDDING)
    assert json.loads(files["adapterbank.json"]) == {"basis": "b1@2", "error": 0.25}


FILES = {"a": b"1", "b": b"22"}


def test_a_directory_is_written_whole(tmp_path):
    write_directory(tmp_path / "x" / "y", FILES)
    assert {path.name: path.read_bytes() for path in (tmp_path / "x" / "y").iterdir()} == FILES
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


def test_an_empty_directory_is_taken_and_a_full_one_refused(tmp_path):
    (tmp_path / "d").mkdir()
    write_directory(tmp_path / "d", FILES)
    with pytest.raises(ConflictError):
        write_directory(tmp_path / "d", FILES)
    (tmp_path / "f").write_text("a file")
    with pytest.raises(ConflictError):
        write_directory(tmp_path / "f", FILES)
    (tmp_path / "l").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        write_directory(tmp_path / "l", FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f", "l"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failing_disk_leaves_nothing(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(28, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.rename", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_directory(tmp_path / "d", FILES)
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask(tmp_path):
    write_directory(tmp_path / "d", FILES)
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "d").stat().st_mode == (tmp_path / "plain").stat().st_mode
