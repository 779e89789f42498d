"""Inspect the two files of a PEFT directory, without torch and before any library reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterbank.errors import Problem
from adapterbank.peft_format import config as config_file
from adapterbank.peft_format import header as header_file
from adapterbank.peft_format import inventory as inventory_of
from adapterbank.peft_format import names
from adapterbank.peft_format.config import LoraConfig
from adapterbank.peft_format.content import content_digest
from adapterbank.peft_format.experts import is_expert
from adapterbank.peft_format.facts import Facts, Inspection
from adapterbank.peft_format.header import Header
from adapterbank.peft_format.inventory import Inventory
from adapterbank.peft_format.refusal import errors, refusal
from adapterbank.peft_format.scan import Scan, scan

__all__ = ["Facts", "Inspection", "inspect"]

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def inspect(config: bytes, weights: Any) -> Inspection:
    """Facts, warnings and the content digest of an adapter; RefusedInputError lists every problem there is.

    ``weights`` is a buffer (bytes or a mapping) with the whole of ``adapter_model.safetensors``. Nothing is copied.
    """
    inspection, problems = _inspection(config, weights)
    if inspection is None:
        raise refusal(problems)
    return inspection


def _inspection(config: bytes, weights: Any) -> tuple[Inspection | None, list[Problem]]:
    settings, problems = config_file.read(config)
    header, found = header_file.read(weights)
    problems += found
    if header is None:
        return None, problems
    scans = scan(weights, header.tensors)
    problems += [
        Problem("not_finite", f"{key} holds NaN or infinity", key) for key, result in scans.items() if result.not_finite
    ]
    if settings is None:
        return None, problems
    inventory, found = inventory_of.take(settings, header)
    problems += found
    if inventory is None or errors(problems):
        return None, problems
    problems += [*_zeros(inventory, scans), *_prefixes(header), *_targets(settings, inventory)]
    content = content_digest(settings, header, inventory, scans)
    return Inspection(_facts(settings, header, inventory), tuple(problems), content), problems


def _facts(config: LoraConfig, header: Header, inventory: Inventory) -> Facts:
    modules = tuple(sorted(shape for pair in inventory.pairs for shape in pair.shapes()))
    dtypes = {header.tensors[pair.key_A].dtype for pair in inventory.pairs}
    obstacles = [case for case in inventory.cases if case.obstacle is not None]
    variants = [case.code for case in inventory.cases if case.code in _VARIANTS]
    return Facts(
        kind=variants[0] if variants else "lora",
        dtype=_DTYPES[dtypes.pop()] if len(dtypes) == 1 else "mixed" if dtypes else "none",
        rank=max((shape.rank for shape in modules), default=config.rank),
        alpha=config.alpha,
        rslora=config.rslora,
        target_modules=tuple(sorted({pair.module.removesuffix(".base_layer").rpartition(".")[2] for pair in inventory.pairs})),
        modules=modules,
        parameters=sum(shape.parameters for shape in modules),
        base_model=config.base_model,
        carried=tuple(inventory.carried),
        basis_ready=not obstacles,
        basis_reason="; ".join(str(case.obstacle) for case in obstacles) or None,
        naming=inventory.naming.name,
        cases=tuple(case.code for case in inventory.cases),
    )


_VARIANTS = frozenset({"dora", "alora", "qalora", "bdlora", "monteclora", "velora"})


def _zeros(inventory: Inventory, scans: Mapping[str, Scan]) -> list[Problem]:
    """A warning if no module changes anything, else a note for each one that does not."""
    idle = [pair.module for pair in inventory.pairs if scans[pair.key_B].zero or scans[pair.key_A].zero]
    if idle and len(idle) == len(inventory.pairs):
        return [Problem("no_op", "lora_A or lora_B is zero in every module: the adapter changes nothing", None, "warning")]
    return [
        Problem("zero_module", f"{name}: lora_A or lora_B is all zeros, so it changes nothing", name, "note") for name in idle
    ]


def _prefixes(header: Header) -> list[Problem]:
    bare = [key for key in header.tensors if not key.startswith(names.PEFT_PREFIX)]
    if not bare:
        return []
    message = f"{len(bare)} tensors do not begin with {names.PEFT_PREFIX}; PEFT ignores them, written directories repair it"
    return [Problem("key_prefix", message, bare[0], "warning")]


def _targets(config: LoraConfig, inventory: Inventory) -> Iterator[Problem]:
    """Disagreements between a plain list ``target_modules`` and the tensors; the tensors are what counts."""
    if not config.targets:
        return
    used: set[str] = set()
    for pair in inventory.pairs:
        matched = config.targeted_by(pair.own.partition(".base_layer")[0])
        used |= matched
        # PEFT takes a tied module out of the list it saves.
        if not matched and not is_expert(config, pair.own) and not config.get("ensure_weight_tying"):
            yield Problem("untargeted_module", f"{pair.own} has factors but is not in target_modules", pair.own, "warning")
    for key in inventory.carried.values():
        used |= config.targeted_by(names.split(names.unwrapped(key))[0])
    for name in sorted(config.targets - used):
        yield Problem("target_without_tensors", f"{name} is in target_modules but has no factors", name, "warning")
