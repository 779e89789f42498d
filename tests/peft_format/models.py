"""Tiny real models, built from configurations without a network, and PEFT adapters with random factors on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (  # fmt: skip
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

_SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_TOKENS = torch.tensor([[1, 5, 9, 3, 30, 2]])


class Conv(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv1d(8, 6, 5), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu().flatten(2)).mean(-1))


class Experts(nn.Module):
    """Stacked experts as bare parameters, ``(E, out, in)``."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 10, 8) / 3)
        self.down_proj = nn.Parameter(torch.randn(3, 8, 10) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return sum(((x @ up.T).relu() @ down.T for up, down in zip(self.gate_up_proj, self.down_proj, strict=True)), x)


class Mixture(nn.Module):
    """A linear layer before stacked experts."""

    def __init__(self) -> None:
        super().__init__()
        self.proj, self.experts = nn.Linear(8, 8), Experts()

    def forward(self, x: Tensor) -> Tensor:
        return self.experts(self.proj(x))


class Words(nn.Module):
    """An embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(32, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


class Attention(nn.Module):
    """PyTorch's own attention, whose output projection PEFT adapts through the wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


@dataclass(frozen=True)
class Setting:
    """A model, an input, and the LoRA configuration to try on it."""

    build: Callable[[], nn.Module]
    x: Tensor
    lora: dict[str, Any]

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().eval()

    def adapter(self, seed: int = 1) -> PeftModel:
        """The model with an adapter whose B is not zero."""
        model = get_peft_model(self.model(), LoraConfig(**self.lora)).eval()
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name and "magnitude" not in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
                elif any(part in name for part in ("modules_to_save", "trainable_tokens_delta")):
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        return model

    def output(self, model: nn.Module) -> Tensor:
        with torch.no_grad():
            out = model(self.x)
        for part in ("logits", "last_hidden_state"):
            out = getattr(out, part, out)
        return out

    def loaded(self, directory: Path) -> Tensor:
        """The output of a fresh model with the adapter in ``directory``."""
        return self.output(PeftModel.from_pretrained(self.model(), directory).eval())


def _llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**_SMALL, num_key_value_heads=1))


def _tied() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**_SMALL, num_key_value_heads=1, tie_word_embeddings=True))


def _bert() -> nn.Module:
    return BertModel(BertConfig(**_SMALL))


def _classifier() -> nn.Module:
    return BertForSequenceClassification(BertConfig(**_SMALL, num_labels=3))


def _gpt2() -> nn.Module:
    return GPT2Model(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2))


def _mixtral() -> nn.Module:
    return MixtralForCausalLM(MixtralConfig(**_SMALL, num_key_value_heads=1, num_local_experts=3))


_QV = ["q_proj", "v_proj"]
_BERT = ["query", "key", "value", "dense"]
_STACKS = ["experts.gate_up_proj", "experts.down_proj"]
_ROW, _IMAGE = torch.linspace(-1, 1, 24).view(3, 8), torch.linspace(-1, 1, 3 * 16).view(1, 3, 4, 4)

SETTINGS: dict[str, Setting] = {
    "plain": Setting(_llama, _TOKENS, {"r": 4, "lora_alpha": 16, "target_modules": _QV, "task_type": "CAUSAL_LM"}),
    "rslora": Setting(_llama, _TOKENS, {"r": 3, "lora_alpha": 7, "use_rslora": True, "target_modules": _QV}),
    "all-linear": Setting(_llama, _TOKENS, {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}),
    "expression": Setting(_llama, _TOKENS, {"r": 4, "target_modules": r".*\.1\..*(up|down)_proj"}),
    "mixed ranks": Setting(
        _llama, _TOKENS,
        {"r": 4, "lora_alpha": 8, "target_modules": _QV, "rank_pattern": {r"layers\.0\..*q_proj": 2, "v_proj": 8},
         "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 32, "v_proj": 5}},
    ),
    "bert": Setting(_bert, _TOKENS, {"r": 4, "target_modules": _BERT, "lora_dropout": 0.1}),
    "classifier": Setting(_classifier, _TOKENS, {"r": 4, "target_modules": ["query"], "task_type": "SEQ_CLS"}),
    "biases": Setting(_bert, _TOKENS, {"r": 4, "target_modules": ["query"], "bias": "all"}),
    "biases of the targets": Setting(_bert, _TOKENS, {"r": 4, "target_modules": ["query"], "bias": "lora_only"}),
    "Conv1D": Setting(_gpt2, _TOKENS, {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "embedding": Setting(Words, _TOKENS, {"r": 4, "lora_alpha": 6, "target_modules": ["words", "head"]}),
    "convolutions": Setting(Conv, _IMAGE, {"r": 4, "lora_alpha": 6, "target_modules": ["first", "second", "head"]}),
    "experts": Setting(Mixture, _ROW, {"r": 2, "lora_alpha": 6, "target_modules": ["proj"], "target_parameters": _STACKS}),
    "one stack": Setting(Mixture, _ROW, {"r": 2, "target_modules": [], "target_parameters": _STACKS[1:]}),
    "experts of two ranks": Setting(
        Mixture, _ROW, {"r": 2, "target_modules": [], "target_parameters": _STACKS, "rank_pattern": {r".*\.gate_up_proj": 5}}
    ),
    "Mixtral": Setting(
        _mixtral, _TOKENS,
        {"r": 2, "target_modules": _QV, "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    ),
    "attention": Setting(Attention, _ROW[None], {"r": 2, "lora_alpha": 6, "target_modules": ["attention"]}),
    "tied embeddings": Setting(
        _tied, _TOKENS, {"r": 4, "target_modules": ["embed_tokens", "q_proj", "lm_head"], "ensure_weight_tying": True}
    ),
    "DoRA": Setting(_llama, _TOKENS, {"r": 4, "lora_alpha": 6, "target_modules": _QV, "use_dora": True}),
    "lora bias": Setting(_bert, _TOKENS, {"r": 4, "lora_alpha": 6, "target_modules": ["query"], "lora_bias": True}),
    "new tokens": Setting(_llama, _TOKENS, {"r": 4, "target_modules": _QV, "trainable_token_indices": [1, 9]}),
    "VeLoRA": Setting(_llama, _TOKENS, {"r": 4, "target_modules": _QV, "velora_config": {"num_groups": 4}}),
}  # fmt: skip
