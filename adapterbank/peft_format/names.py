"""Tensor keys to module names, so that adapters saved through different wrappers share a layout.

Two explicit tables and nothing else: wrappers that PyTorch and PEFT put around a model, and the prefixes that
transformers 5 moved. A move is made only when the file shows the marks of the old naming.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PEFT_PREFIX = "base_model.model."

# Leading segments of DistributedDataParallel; a real submodule may bear this name further in.
_LEADING = ("module.",)
# Segments of torch.compile, FullyShardedDataParallel and activation checkpointing: never part of a model's own names.
_INNER = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


@dataclass(frozen=True, slots=True)
class Naming:
    """Prefixes as an older transformers wrote them and as version 5 does; used if every mark begins some module name."""

    name: str
    marks: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()

    def applies(self, modules: Iterable[str]) -> bool:
        names = list(modules)
        return bool(self.marks) and all(any(name.startswith(mark) for name in names) for mark in self.marks)

    def forward(self, module: str) -> str:
        """The name in transformers 5."""
        return _moved(module, self.moves)

    def backward(self, module: str) -> str:
        """The name as the file had it."""
        return _moved(module, [(new, old) for old, new in self.moves])


CURRENT = Naming("current")
NAMINGS = (
    # transformers/conversion_mapping.py: "llava", "emu3", "Qwen2VLForConditionalGeneration" and those that share them.
    Naming(
        "transformers4-language-model",
        ("language_model.model.",),
        (
            ("language_model.model.", "model.language_model."),
            ("language_model.lm_head", "lm_head"),
            ("vision_tower.", "model.vision_tower."),
            ("multi_modal_projector.", "model.multi_modal_projector."),
        ),
    ),
    Naming(
        "transformers4-text-model",
        ("text_model.model.",),
        (("text_model.model.", "model.text_model."), ("text_model.lm_head", "lm_head"), ("vqmodel.", "model.vqmodel.")),
    ),
    Naming(
        "transformers4-visual",
        ("visual.", "model.layers."),
        (("visual.", "model.visual."), ("model.layers.", "model.language_model.layers.")),
    ),
    CURRENT,
)


def naming(modules: Iterable[str]) -> Naming:
    """The naming that ``modules`` (names without wrappers) are written in."""
    names = list(modules)
    return next((candidate for candidate in NAMINGS if candidate.applies(names)), CURRENT)


def naming_called(name: str) -> Naming:
    """The naming with this name (``Facts.naming``); LookupError if there is none."""
    for candidate in NAMINGS:
        if candidate.name == name:
            return candidate
    raise LookupError(f"no naming is called {name!r}")


def unwrapped(key: str) -> str:
    """``key`` without PEFT's prefix and without the segments of wrappers."""
    before = None
    while before != key:
        before = key
        for prefix in (PEFT_PREFIX, *_LEADING):
            key = key.removeprefix(prefix)
        first, dot, rest = key.partition(".")
        if first in _INNER and dot:
            key = rest
    return ".".join(part for part in key.split(".") if part not in _INNER)


def split(key: str) -> tuple[str, str]:
    """A LoRA tensor's key as module and part (``"lora_A.weight"``); the part is empty if it is no LoRA tensor."""
    module, found, part = key.rpartition(".lora_")
    return (module, f"lora_{part}") if found else (key, "")


def _moved(module: str, moves: Iterable[tuple[str, str]]) -> str:
    for old, new in moves:
        if module.startswith(old):
            return new + module.removeprefix(old)
    return module
