"""A tiny Llama of our own with a tokenizer of plain words, adapters for it, and what PEFT makes of both."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = 512
PROMPT = [5, 17, 99, 250, 3, 41]
TOKENS = 12
TARGETS = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj")


def write_model(folder: Path) -> LlamaForCausalLM:
    """The model in ``folder``, with random weights large enough that adapters change what it says."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.08,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"t{i}": i for i in range(WORDS)}, unk_token="t2"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="t0", eos_token="t1", pad_token="t2", unk_token="t2"
    ).save_pretrained(folder)
    return model


def write_adapter(model: LlamaForCausalLM, folder: Path, seed: int) -> None:
    """An adapter with factors drawn from ``seed``: ranks and α differ from one to the next, and within some."""
    rank = 4 + seed % 3 * 4
    config = LoraConfig(
        r=rank, lora_alpha=3 * rank + seed % 5, target_modules=list(TARGETS), use_rslora=seed % 2 == 1, init_lora_weights=False,
        rank_pattern={"down_proj": 2} if seed % 4 == 0 else {},
    )  # fmt: skip
    torch.manual_seed(1000 + seed)
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(folder)
    adapted.unload()


def expected(model: LlamaForCausalLM, folder: Path) -> list[int]:
    """The tokens that PEFT with this adapter says after the prompt, greedily."""
    adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    try:
        found = adapted.generate(
            input_ids=torch.tensor([PROMPT]), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False,
            attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        )  # fmt: skip
    finally:
        adapted.unload()
    return [int(token) for token in found[0, len(PROMPT) :]]
