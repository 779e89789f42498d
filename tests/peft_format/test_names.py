"""Names and patterns."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.errors import RefusedInputError
from adapterbank.peft_format import names
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.config import parse
from adapterbank.peft_format.patterns import Pattern, first_match, too_costly
from adapterbank.peft_format.reader import read
from adapterbank.peft_format.writer import encode
from tests.peft_format.build import PREFIX, Q, config, llama, pairs, weights

WRAPPERS = [
    PREFIX,
    "",
    "module.base_model.model.",
    "base_model.model.module.",
    "base_model.model._orig_mod.",
    "_orig_mod.base_model.model.",
    "_fsdp_wrapped_module.base_model.model.",
    "module._orig_mod.base_model.model._orig_mod.module.",
]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrappers_come_off(prefix):
    assert names.unwrapped(f"{prefix}{Q}") == Q


def test_inner_wrappers_come_off_and_real_modules_stay():
    assert names.unwrapped("base_model.model.model.layers.0._checkpoint_wrapped_module.self_attn.q_proj") == Q
    assert names.unwrapped("base_model.model.encoder.module.dense") == "encoder.module.dense"


OLD_AND_NEW = [
    ("language_model.model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"),
    ("text_model.model.layers.0.mlp.up_proj", "model.text_model.layers.0.mlp.up_proj"),
]


@pytest.mark.parametrize(("old", "new"), OLD_AND_NEW)
def test_transformers_4_and_5_share_a_layout(old, new):
    files = [weights(pairs(name)) for name in (old, new)]
    before, after = (inspect(config(), data).facts for data in files)
    assert before.modules == after.modules
    assert [shape.name for shape in after.modules] == [new]
    assert after.naming == "current" != before.naming
    back = encode(read(config(), files[0]), dtype=torch.float32, naming=before.naming)
    assert f"{PREFIX}{old}.lora_A.weight".encode() in back["adapter_model.safetensors"]


def test_qwen_vl_of_transformers_4():
    facts = inspect(config(), weights(pairs("visual.blocks.0.attn.qkv", Q))).facts
    assert [shape.name for shape in facts.modules] == [
        "model.language_model.layers.0.self_attn.q_proj",
        "model.visual.blocks.0.attn.qkv",
    ]


def test_a_plain_language_model_is_left_alone():
    assert inspect(config(), weights(llama())).facts.naming == "current"


def test_names_that_meet_are_refused():
    with pytest.raises(RefusedInputError, match="name_collision"):
        inspect(config(), weights({**llama(), **llama(prefix="base_model.model._orig_mod.")}))


@pytest.mark.parametrize("naming", names.NAMINGS, ids=lambda naming: naming.name)
def test_backward_undoes_forward(naming):
    for old, _ in naming.moves:
        assert naming.backward(naming.forward(f"{old}x")) == f"{old}x"
    assert names.naming_called(naming.name) is naming


def peft_get_pattern_key(keys, name):
    """``peft.utils.other.get_pattern_key`` (0.21), copied as the reference."""
    for key in keys:
        if re.match(rf"(.*\.)?({key})$", name):
            return key
    return name


KEYS = st.lists(
    st.sampled_from([
        "q_proj", "a.b", "^a.b", "^q_proj", r"a\.b", r".*\.b", r".*b", "(a|b)", r"[ab]\.b", r"a+\.b", r"a?b", r"\d+\.q", "0.q",
        r"layers\.(0|1)\..*_proj", "b$", r"\w+", "_", "-", ".",
    ]),
    max_size=4, unique=True,
)  # fmt: skip
NAMES = st.lists(
    st.sampled_from(["a", "b", "ab", "aab", "q", "0", "1", "layers", "q_proj", "a_b", "axb"]), min_size=1, max_size=4
)


@settings(max_examples=500, deadline=None)
@given(KEYS, NAMES.map(".".join))
def test_patterns_match_as_in_peft(keys, name):
    got = first_match([Pattern.of(key) for key in keys], name)
    assert (name if got is None else got) == peft_get_pattern_key(keys, name)


def test_ranks_and_scalings_by_module():
    settings_ = parse(config(rank_pattern={"q_proj": 2, ".*_proj": 16}, alpha_pattern={"^model.v_proj": 3}, use_rslora=True))
    assert [settings_.rank_for(name) for name in ("model.q_proj", "model.v_proj", "dense")] == [2, 16, 4]
    assert settings_.scaling_for("model.v_proj") == pytest.approx(3 / 4)
    assert settings_.scaling_for("x.model.v_proj") == pytest.approx(8 / 4)


@pytest.mark.parametrize("key", ["a?" * 40, "(a|a)" * 20, ".*.*.*.*.*x", "a+" * 9])
def test_slow_patterns_are_recognised_before_they_run(key):
    assert too_costly([Pattern.of(key)], ["a" * 100])


@pytest.mark.parametrize("key", ["q_proj", r".*\.gate_up_proj", r"layers\.(0|1|2)\..*proj"])
def test_ordinary_patterns_are_cheap(key):
    assert not too_costly([Pattern.of(key)], [f"model.layers.{n}.self_attn.q_proj" for n in range(1000)])
