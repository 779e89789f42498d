"""LoRA on stacked experts (PEFT's ``target_parameters``): which modules they are and which rank theirs is.

PEFT wraps the module that owns the parameter, so a file names ``mlp.experts``, not ``mlp.experts.down_proj``. With two
parameters of one module the wrappers nest: the parameter defined first is ``mlp.experts.base_layer``, the second
``mlp.experts`` (peft/tuners/tuners_utils.py, ``_inject_parameters``).
"""

from __future__ import annotations

from adapterbank.peft_format.config import LoraConfig

# The order in which every mixture of experts in transformers defines its two parameters.
ORDER = ("gate_up_proj", "down_proj")
_BASE = ".base_layer"


def container(own: str) -> str:
    """The module that owns the parameters: ``own`` without the wrappers' ``base_layer``."""
    while own.endswith(_BASE):
        own = own.removesuffix(_BASE)
    return own


def parameters_of(config: LoraConfig, own: str) -> list[str]:
    """Last parts of the target parameters that lie in the module ``own``, sorted as PEFT nests them where that is known."""
    home = container(own)
    found = set()
    for target in config.get("target_parameters") or []:
        owner, _, leaf = target.rpartition(".")
        if not owner or home == owner or home.endswith(f".{owner}"):
            found.add(leaf)
    return sorted(found, key=lambda leaf: (ORDER.index(leaf) if leaf in ORDER else len(ORDER), leaf))


def is_expert(config: LoraConfig, own: str) -> bool:
    """Whether the module ``own`` is adapted through one of its parameters."""
    return bool(config.get("target_parameters")) and not config.targeted_by(own) and bool(parameters_of(config, own))


def parameter_for(config: LoraConfig, own: str) -> str | None:
    """The parameter that the factors at ``own`` adapt; None if the file cannot tell."""
    leaves = parameters_of(config, own)
    if len(leaves) == 1:
        return leaves[0]
    if tuple(leaves) == ORDER:
        return ORDER[0] if own.endswith(_BASE) else ORDER[1]
    return None


def rank_of_experts(config: LoraConfig, own: str) -> tuple[int, float] | None:
    """Rank and scaling of the factors at ``own``; None if its parameters have different ones and no order is known."""
    leaf = parameter_for(config, own)
    leaves = [leaf] if leaf is not None else parameters_of(config, own)
    matched = [f"{container(own)}.{name}" for name in leaves]
    values = {(config.rank_for(name), config.scaling_for(name)) for name in matched}
    return values.pop() if len(values) == 1 else None
