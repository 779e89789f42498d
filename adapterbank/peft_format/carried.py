"""Tensors that are no LoRA factors: which of them the configuration accounts for, by an explicit list of reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adapterbank.errors import Problem
from adapterbank.peft_format import names
from adapterbank.peft_format.config import LoraConfig

_NAMED = re.compile(r"lora_(embedding_)?[AB]\.[^.]+(\.weight)?")
# Embeddings that PEFT saves when the vocabulary was resized or an embedding is adapted (get_peft_model_state_dict).
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "word_embeddings", "shared", "embeddings", "embed_in", "embed_out")
_EMBEDDING = re.compile(rf"(.*\.)?({'|'.join(_EMBEDDINGS)})(\.base_layer)?\.(weight|bias)")
# The parts that a variant adds, and the case that accounts for them.
_PARTS: Mapping[str, str] = {
    "lora_magnitude_vector": "dora",
    "lora_magnitude_vector.weight": "dora",
    "lora_B.bias": "lora_bias",
    "lora_velora_embed": "velora",
    "lora_diag": "kasa",
}


@dataclass
class Carrier:
    """Judges the tensors beside the factors; ``met`` collects the cases that accounted for one."""

    config: LoraConfig
    saved: tuple[str, ...]
    packed: tuple[str, ...]
    met: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, config: LoraConfig) -> Carrier:
        blocks = config.get("use_bdlora") or {}
        lists = [blocks.get(f"target_modules_bd_{side}") for side in "ab"]
        packed = [name for items in lists if isinstance(items, list) for name in items if isinstance(name, str)]
        return cls(config, tuple(config.get("modules_to_save") or ()), tuple(packed))

    def takes_factor(self, module: str) -> bool:
        """Whether the factors of ``module`` are packed block-diagonally, so that they travel verbatim."""
        return any(name in module for name in self.packed)

    def judge(self, others: Mapping[str, str], modules: Mapping[str, str]) -> list[Problem]:
        """Problems of the tensors ``others`` (canonical key to key) and of the modules that lack one they need."""
        problems = [problem for name, key in others.items() if (problem := self._tensor(name, key)) is not None]
        for code, part in (("dora", "lora_magnitude_vector"), ("lora_bias", "lora_B.bias")):
            if self.config.get({"dora": "use_dora"}.get(code, code)):
                problems += _absent(code, part, others, modules)
        return problems

    def _tensor(self, name: str, key: str) -> Problem | None:
        module, part = names.split(name.removeprefix(names.PEFT_PREFIX))
        if not part:
            reason = next((code for code, accounts in self._reasons() if accounts(module)), None)
            if reason is None:
                return Problem("unknown_key", f"{key} is accounted for by nothing in the configuration", key)
            self._meet(reason)
            return None
        if self.takes_factor(module) and part in ("lora_A.weight", "lora_B.weight"):
            return None
        code = _PARTS.get(part) or next((c for c in ("monteclora", "arrow") if part.startswith(f"lora_{c}")), None)
        if code is None:
            if _NAMED.fullmatch(part):
                return Problem(
                    "adapter_name_in_key", f"{key} still has the adapter's name in it; save it with save_pretrained", key
                )
            return Problem("unknown_key", f"{key} is no tensor that LoRA saves", key)
        if not self._switched_on(code):
            return Problem("unexpected_tensor", f"{key} belongs to {code}, which the configuration does not use", key)
        return None

    def _reasons(self) -> tuple[tuple[str, Callable[[str], bool]], ...]:
        """Cases that account for a plain tensor, most specific first."""
        bias = self.config.get("bias") != "none"
        tokens = bool(self.config.get("trainable_token_indices"))
        return (
            ("trainable_token_indices", lambda name: tokens and name.endswith(".trainable_tokens_delta")),
            ("modules_to_save", self._is_saved),
            ("saved_embeddings", lambda name: _EMBEDDING.fullmatch(name) is not None),
            ("bias", lambda name: bias and (name == "bias" or name.endswith(".bias"))),
        )

    def _is_saved(self, name: str) -> bool:
        """Whether a module that contains the tensor ends in one of ``modules_to_save``, which is how PEFT looks for them."""
        parts = name.split(".")
        owners = [".".join(parts[:n]) for n in range(1, len(parts))]
        return any(owner.endswith(saved) for owner in owners for saved in self.saved if saved)

    def _switched_on(self, code: str) -> bool:
        field_name = {"dora": "use_dora", "lora_bias": "lora_bias"}.get(code, f"{code}_config")
        return self.config.get(field_name) not in (None, False)

    def _meet(self, code: str) -> None:
        if code not in self.met:
            self.met.append(code)


def _absent(code: str, part: str, others: Mapping[str, str], modules: Mapping[str, str]) -> list[Problem]:
    problems = []
    for module, kind in modules.items():
        if code == "lora_bias" and kind == "embedding":
            continue
        key = f"{names.PEFT_PREFIX}{module}.{part}"
        if key not in others and f"{key}.weight" not in others:
            problems.append(Problem("missing_tensor", f"{module} has no {part}, which {code} needs", module))
    return problems
