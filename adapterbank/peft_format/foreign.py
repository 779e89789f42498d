"""Other people's formats, recognised by the names of files and tensors, so that the refusal can say how to convert."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from adapterbank.errors import Problem
from adapterbank.peft_format.cases import BY_CODE

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.\w+|.*\.index\.json")
_KOHYA = re.compile(
    r"(lora_(unet|te|te1|te2|te3|transformer|prior)_.*)|(.*\.lora_(down|up)\.weight)|(.*\.alpha)|(.*\.dora_scale)"
)
_DIFFUSERS = re.compile(r"(unet|transformer|prior|controlnet|text_encoder(_\d)?)\..*|.*[._]lora\.(down|up)\.weight")
_FULL_MODEL = {"model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "consolidated.safetensors"}


def by_files(names: Collection[str], nested: Iterable[str]) -> Problem | None:
    """What a directory without a PEFT adapter's two files holds; ``nested`` are folders inside that have a configuration."""
    shards = sorted(name for name in names if _SHARD.fullmatch(name))
    if shards:
        return foreign("sharded", shards[0])
    for name in sorted(names):
        if name.endswith(".gguf"):
            return foreign("gguf", name)
        if name.startswith("pytorch_lora_weights."):
            return foreign("diffusers", name)
    if _FULL_MODEL & set(names):
        return foreign("full_model", min(_FULL_MODEL & set(names)))
    pickled = sorted(name for name in names if _PICKLE.fullmatch(name))
    if pickled:
        return foreign("pickle", pickled[0])
    folders = sorted(nested)
    return foreign("nested", f"{folders[0]}/") if folders else None


def by_keys(keys: Collection[str]) -> Problem | None:
    """Which other format tensors with these names come from; None if they may be PEFT's."""
    bare = [key for key in keys if not key.startswith("base_model.")]
    for code, pattern in (("kohya", _KOHYA), ("diffusers", _DIFFUSERS)):
        found = next((key for key in bare if pattern.fullmatch(key)), None)
        if found is not None:
            return foreign(code, found)
    if keys and not any(".lora_" in key for key in keys):
        return foreign("full_model", min(keys))
    return None


def foreign(code: str, where: str) -> Problem:
    """The problem of one foreign format, with the way to convert it."""
    case = BY_CODE[code]
    return Problem(code, f"{where}: {case.what}; {case.then}", where)
