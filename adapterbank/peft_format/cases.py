"""The table that decides what happens to every feature of a PEFT directory: handled, carried or refused.

``docs/formats.md`` prints the same table; a test compares the two and builds a fixture for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Decision = Literal["handled", "carried", "refused"]


@dataclass(frozen=True, slots=True)
class Case:
    """One row. ``obstacle`` says why such an adapter is in no basis and no merge (None: it may be).

    ``present`` tells from the configuration's fields whether the case applies; None if the tensors show it.
    """

    code: str
    decision: Decision
    what: str
    then: str
    obstacle: str | None = None
    present: Callable[[Mapping[str, Any]], bool] | None = None


def _set(field: str) -> Callable[[Mapping[str, Any]], bool]:
    # An empty dictionary switches a *_config on in PEFT; an empty list or a false flag switches nothing on.
    return lambda fields: fields.get(field) not in (None, False, [])


def _filled(field: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda fields: bool(fields.get(field))


def _start(fields: Mapping[str, Any]) -> str:
    start = fields.get("init_lora_weights")
    return start.lower() if isinstance(start, str) else ""


def _raw_start(fields: Mapping[str, Any]) -> bool:
    return _start(fields).startswith(("pissa", "olora", "corda", "lora_ga", "loftq"))


def _kept_start(fields: Mapping[str, Any]) -> bool:
    return _start(fields) in ("gaussian", "eva", "orthogonal", "mica")


CASES: tuple[Case, ...] = (
    Case("rank_pattern", "handled", "ranks by module", "each module has its own rank; the tensors must agree",
         present=_filled("rank_pattern")),
    Case("alpha_pattern", "handled", "α by module", "each module has its own scaling", present=_filled("alpha_pattern")),
    Case("rslora", "handled", "`use_rslora`", "scaling α/√r", present=_set("use_rslora")),
    Case("fan_in_fan_out", "handled", "Conv1D of GPT-2", "the factors have the same orientation; the flag is kept",
         present=_set("fan_in_fan_out")),
    Case("embedding", "handled", "`lora_embedding_A` / `_B`", "kind `embedding`, d_in is the vocabulary"),
    Case("conv", "handled", "4-D (or 3-D) factors", "kind `conv`, d_in is channels × window"),
    Case("target_regex", "handled", "`target_modules` is one expression", "never evaluated: the tensors are the truth",
         present=lambda fields: isinstance(fields.get("target_modules"), str)),
    Case("target_parameters", "handled", "experts stacked in one parameter",
         "one module `<module>[e]` of kind `expert` for each expert", present=_filled("target_parameters")),
    Case("tied_embeddings", "handled", "`ensure_weight_tying`", "both tied modules are in the file and are kept as two",
         present=_set("ensure_weight_tying")),
    Case("kept_start", "handled", "starts that leave the base model alone: gaussian, eva, orthogonal, mica",
         "read as trained", present=_kept_start),
    Case("wrapped_names", "handled", "keys written through DDP, FSDP, torch.compile or transformers 4",
         "module names are normalised; the bytes stay as they came"),
    Case("velora", "handled", "`velora_config`", "inference is plain LoRA; its buffers are carried",
         present=_set("velora_config")),
    Case("dora", "carried", "`use_dora` and magnitudes", "registered and exported; magnitudes are kept",
         "DoRA normalises W + s·B·A, so its update is not linear in B·A", _set("use_dora")),
    Case("lora_bias", "carried", "`lora_bias`", "the biases are kept",
         "the bias of lora_B is scaled with ΔW but is no part of it", _set("lora_bias")),
    Case("modules_to_save", "carried", "whole modules saved beside the factors", "their tensors travel verbatim",
         present=_filled("modules_to_save")),
    Case("bias", "carried", "`bias` all or lora_only", "the biases of the base model travel verbatim",
         present=lambda fields: fields.get("bias") in ("all", "lora_only")),
    Case("trainable_token_indices", "carried", "new rows for some tokens", "the rows travel verbatim",
         present=_filled("trainable_token_indices")),
    Case("saved_embeddings", "carried", "embeddings saved because they were resized or adapted", "they travel verbatim"),
    Case("layer_replication", "carried", "`layer_replication`", "registered and exported",
         "its layers are copies: their numbers are not those of the base model", _filled("layer_replication")),
    Case("alora", "carried", "`alora_invocation_tokens`", "registered and exported",
         "aLoRA acts only after its invocation tokens", _set("alora_invocation_tokens")),
    Case("qalora", "carried", "`use_qalora`", "registered and exported",
         "QALoRA acts on pooled inputs of a quantised base", _set("use_qalora")),
    Case("bdlora", "carried", "`use_bdlora`", "block-diagonal factors travel verbatim",
         "BD-LoRA stores block-diagonal factors in a packed form", _set("use_bdlora")),
    Case("monteclora", "carried", "`monteclora_config`", "the sampler's tensors travel verbatim",
         "the sampler of MonteCLoRA belongs to these very factors", _set("monteclora_config")),
    Case("megatron", "carried", "`megatron_config`", "registered and exported",
         "Megatron's parallel layers are not those of the plain model", _set("megatron_config")),
    Case("raw_start", "refused", "PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ, not converted",
         "it belongs to changed base weights; convert with `save_pretrained(path_initial_model_for_weight_conversion=…)`",
         present=_raw_start),
    Case("kasa", "refused", "`kasa_config`", "KaSA truncates the base weights", present=_set("kasa_config")),
    Case("arrow", "refused", "`arrow_config`", "a router over other adapters; register those", present=_set("arrow_config")),
    Case("peft_type", "refused", "any other peft_type", "`peft.convert_to_lora` turns additive kinds into LoRA"),
    Case("conv_groups", "refused", "a grouped convolution", "its update is not one product B·A"),
    Case("too_many_dims", "refused", "Conv3d: 5-D factors", "tensors have at most four dimensions"),
    Case("adapter_name_in_key", "refused", "`lora_A.default.weight`", "a raw state dict; save with `save_pretrained`"),
    Case("kohya", "refused", "`lora_unet_…`, `lora_te_…`, `.lora_down.weight`, `.alpha`",
         "convert with diffusers, then save with PEFT"),
    Case("diffusers", "refused", "`unet.…`, `transformer.…`, `.lora.up.weight`, pytorch_lora_weights.safetensors",
         "load it into its pipeline with diffusers and call `save_pretrained` of the adapted model"),
    Case("pickle", "refused", "`.bin`, `.pt`, `.pth`, `.ckpt`",
         "pickles run code; load and save again as safetensors where you trust them"),
    Case("gguf", "refused", "`.gguf`", "register the PEFT directory it was made from"),
    Case("full_model", "refused", "a whole model", "extract an adapter first, or register the PEFT directory"),
    Case("nested", "refused", "adapters are in folders inside, such as `default/`",
         "name that folder, or take all with `register --recursive`"),
    Case("sharded", "refused", "weights in several files", "load and save again in one file"),
)  # fmt: skip

BY_CODE: Mapping[str, Case] = {case.code: case for case in CASES}


def cases_in(fields: Mapping[str, Any]) -> tuple[Case, ...]:
    """The rows that a configuration's fields call up, in the table's order."""
    return tuple(case for case in CASES if case.present is not None and case.present(fields))
