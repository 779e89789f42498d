"""The tiny Llama of the examples, and what PEFT makes of it and an adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from examples.tiny_llama.make import write_adapter, write_model

__all__ = ["PROMPT", "TOKENS", "expected", "write_adapter", "write_model"]

PROMPT = [5, 17, 99, 250, 3, 41]
TOKENS = 12


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
