"""Inspection: facts, all problems at once, values, and the content digest."""

from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.errors import RefusedInputError
from adapterbank.lora.layout import ModuleShape
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.header import TensorInfo
from adapterbank.peft_format.scan import scan
from tests.peft_format.build import PREFIX, Q, V, config, llama, pair, weights
from tests.peft_format.features import EXPERTS


def refusal(settings_, data):
    with pytest.raises(RefusedInputError) as refused:
        inspect(settings_, data)
    return {problem.code for problem in refused.value.problems}


def warnings_of(settings_, data):
    return [(p.code, p.severity) for p in inspect(settings_, data).problems]


def test_facts_of_a_plain_adapter():
    facts = inspect(config(base_model_name_or_path="org/base", use_rslora=True), weights(llama(), dtype="BF16")).facts
    assert (facts.kind, facts.dtype, facts.rank, facts.alpha, facts.rslora) == ("lora", "bfloat16", 4, 8.0, True)
    assert facts.modules == (ModuleShape(Q, 5, 6, 4), ModuleShape(V, 5, 6, 4))
    assert facts.target_modules == ("q_proj", "v_proj")
    assert facts.parameters == 2 * 4 * (5 + 6)
    assert facts.base_model == "org/base"
    assert facts.carried == () and facts.basis_ready and facts.basis_reason is None


def test_experts_become_modules_of_their_own():
    fields = {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    facts = inspect(config(**fields), weights(EXPERTS)).facts
    home = "model.layers.0.mlp.experts"
    assert [m for m in facts.modules if m.name.startswith(f"{home}[")] == [
        ModuleShape(f"{home}[{e}]", 8, 5, 4, "expert") for e in range(3)
    ]
    assert facts.rank == 4 and len(facts.modules) == 6 and facts.target_modules == ("experts",)


def test_experts_of_unknown_order_and_unlike_ranks_are_refused():
    fields = {"target_parameters": ["experts.w1", "experts.w2"], "rank_pattern": {"w1": 2}}
    assert refusal(config(**fields), weights(EXPERTS)) == {"expert_rank_ambiguous"}


def test_experts_that_do_not_divide_are_refused():
    assert refusal(config(r=5, target_parameters=["experts.w1"]), weights(EXPERTS)) == {"expert_shape"}


def test_all_problems_are_told_at_once():
    tensors = {**pair(Q, 8), **pair(V), f"{PREFIX}x.lora_A.weight": np.ones((4, 6)), f"{PREFIX}y.norm": np.ones(3)}
    tensors[f"{PREFIX}{V}.lora_B.weight"][2, 1] = np.nan
    found = refusal(config(init_lora_weights="pissa"), weights(tensors))
    assert found == {"rank_mismatch", "not_finite", "unpaired", "unknown_key", "raw_start"}


def test_a_bad_configuration_and_a_bad_header_are_told_together():
    assert refusal(config(r=0, bias="x"), b"short") == {"config_field", "header_truncated"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({f"{PREFIX}{Q}.lora_B.weight": np.ones((5, 3))}, "pair_shape"),
        ({f"{PREFIX}{Q}.lora_B.weight": np.ones((5, 4, 1))}, "factor_shape"),
        ({f"{PREFIX}{Q}.lora_B.weight": np.ones(5)}, "factor_shape"),
        ({f"{PREFIX}{Q}.lora_A.weight": np.ones((4, 6), int)}, "factor_dtype"),
        ({f"{PREFIX}{Q}.lora_embedding_A": np.ones((4, 6))}, "mixed_factors"),
        ({f"{PREFIX}{Q}.lora_magnitude_vector": np.ones(5)}, "unexpected_tensor"),
        ({f"{PREFIX}{Q}.lora_C.weight": np.ones(5)}, "unknown_key"),
        ({f"{PREFIX}{Q}.bias": np.ones(5)}, "unknown_key"),
    ],
)
def test_tensors_that_do_not_fit(change, code):
    assert code in refusal(config(), weights({**llama(), **change}))


def test_a_feature_that_lacks_its_tensors():
    assert refusal(config(use_dora=True), weights(llama())) == {"missing_tensor"}
    assert refusal(config(lora_bias=True), weights(llama())) == {"missing_tensor"}


def test_unlike_dtypes():
    tensors = weights(llama())
    tensors = tensors.replace(b'"F32"', b'"I32"', 1)
    assert "factor_dtype" in refusal(config(), tensors)


def test_no_op_and_idle_modules():
    idle = {**llama(), f"{PREFIX}{Q}.lora_B.weight": np.zeros((5, 4), np.float32)}
    assert warnings_of(config(), weights(idle)) == [("zero_module", "note")]
    idle[f"{PREFIX}{V}.lora_B.weight"] = -np.zeros((5, 4), np.float32)
    assert warnings_of(config(), weights(idle)) == [("no_op", "warning")]


def test_warnings():
    assert warnings_of(config(), weights(llama())) == []
    assert warnings_of(config(lora_alpha=0), weights(llama())) == [("zero_alpha", "warning")]
    assert warnings_of(config(new_flag=True, old_flag=False), weights(llama())) == [("config_unknown_field", "warning")]
    assert warnings_of(config(target_modules=["q_proj", "k_proj"]), weights(llama())) == [
        ("untargeted_module", "warning"),
        ("target_without_tensors", "warning"),
    ]
    assert ("key_prefix", "warning") in warnings_of(config(), weights(llama(prefix="")))


SPECIAL = [np.nan, -np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("value", SPECIAL, ids=str)
@pytest.mark.parametrize("at", [0, 17, 23])
def test_every_value_that_is_not_finite_is_found(dtype, value, at):
    tensors = llama()
    tensors[f"{PREFIX}{V}.lora_A.weight"].reshape(-1)[at] = value
    assert refusal(config(), weights(tensors, dtype=dtype)) == {"not_finite"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_the_scan_is_numpy_isfinite(values):
    array = np.array(values, "<f4")
    result = scan(array.tobytes(), {"x": TensorInfo("F32", array.shape, 0, array.nbytes)})["x"]
    assert result.not_finite == (not np.isfinite(array).all())
    assert result.not_finite or result.zero == (not array.any())


def test_a_large_tensor_is_looked_at_to_its_end():
    array = np.ones(1_000_001, "<f4")
    array[-1] = np.inf
    assert scan(array.tobytes(), {"x": TensorInfo("F32", array.shape, 0, array.nbytes)})["x"].not_finite


CONTENT = inspect(config(target_modules=["q_proj", "v_proj"]), weights(llama())).content


@pytest.mark.parametrize(
    ("settings_", "data"),
    [
        (config(target_modules=["v_proj", "q_proj"]), weights(llama(), order=sorted(llama(), reverse=True))),
        (
            config(target_modules=["q_proj", "v_proj"], peft_version="0.9", inference_mode=True),
            weights(llama(), metadata={"a": "b"}),
        ),
        (config(target_modules=["q_proj", "v_proj"], lora_alpha=8.0, bias="none", eva_config=None), weights(llama())),
        (config(target_modules=["q_proj", "v_proj"], base_model_name_or_path="x/y", task_type="CAUSAL_LM"), weights(llama())),
        (config(target_modules=["q_proj", "v_proj"]), weights(llama(prefix="base_model.model._orig_mod."))),
    ],
    ids=["order", "bookkeeping", "defaults", "base model and task", "wrappers"],
)
def test_content_does_not_see(settings_, data):
    assert inspect(settings_, data).content == CONTENT


@pytest.mark.parametrize(
    ("settings_", "data"),
    [
        (config(target_modules=["q_proj", "v_proj"], lora_alpha=16), weights(llama())),
        (config(target_modules=["q_proj", "v_proj"], use_rslora=True), weights(llama())),
        (config(target_modules=["q_proj", "v_proj"], alpha_pattern={"q_proj": 4}), weights(llama())),
        (config(target_modules=["q_proj", "v_proj"]), weights(llama(seed=1))),
        (config(target_modules=["q_proj", "v_proj"]), weights(llama(), dtype="F64")),
        (config(target_modules=["q_proj", "v_proj"]), weights(llama(prefix=f"{PREFIX}outer."))),
    ],
    ids=["alpha", "rslora", "pattern", "values", "dtype", "names"],
)
def test_content_sees(settings_, data):
    assert inspect(settings_, data).content != CONTENT


def test_the_content_digest_is_pinned():
    """A change of the digest's definition would make every registered version look new."""
    ones = {f"{PREFIX}q.lora_A.weight": np.ones((4, 2)), f"{PREFIX}q.lora_B.weight": np.ones((3, 4))}
    content = inspect(config(target_modules=["q"]), weights(ones)).content
    assert content == "93a9c588950eb7413a7f0a29258c3246a09228057a887e8d6e2a26731886632d"


def test_a_mapping_can_be_closed_after_inspection_and_refusal(tmp_path):
    for name, data in (("good", weights(llama())), ("bad", weights(pair(Q, 8)))):
        (tmp_path / name).write_bytes(data)
        with (tmp_path / name).open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            try:
                inspect(config(), mapping)
            except RefusedInputError as refused:
                held = refused
            mapping.close()
    assert held.problems


def test_inspection_needs_no_torch():
    code = "import sys, adapterbank.peft_format.check, adapterbank.peft_format.source; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
