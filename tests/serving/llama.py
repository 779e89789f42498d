"""A tiny Llama and adapters for it, of unlike ranks, scalings and modules, as PEFT saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

ALL = ["q_proj", "v_proj", "down_proj"]
HOW = (
    {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    {"r": 6, "lora_alpha": 3, "target_modules": ALL, "use_rslora": True},
    {"r": 4, "lora_alpha": 4, "target_modules": ALL[:2]},
    {"r": 4, "lora_alpha": 16, "target_modules": ALL[::2], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5}},
)
NAMES = ("sql", "math", "law", "art")


def base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return LlamaForCausalLM(config).eval()


def write_adapters(folder: Path) -> dict[str, Path]:
    """A directory for each of NAMES."""
    found = {}
    for seed, (name, how) in enumerate(zip(NAMES, HOW, strict=True)):
        torch.manual_seed(100 + seed)
        adapted = get_peft_model(base(), LoraConfig(init_lora_weights=False, **how))
        adapted.save_pretrained(folder / name)
        found[name] = folder / name
    return found


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 64, (rows, 7), generator=torch.Generator().manual_seed(5))


def loaded_logits(folder: Path) -> torch.Tensor:
    """What PEFT gives with the original directory."""
    return logits(PeftModel.from_pretrained(base(), str(folder)).eval())


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens()).logits


def empty() -> PeftModel:
    """A PEFT model wide enough for all of them, with nothing in it yet."""
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj", "down_proj", "o_proj"])
    return get_peft_model(base(), config).eval()
