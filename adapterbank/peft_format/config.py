"""``adapter_config.json`` as a value: a stranger's text, read strictly and never handed to a loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from adapterbank.errors import Problem
from adapterbank.peft_format import strict_json
from adapterbank.peft_format.fields import BOOKKEEPING, DEFAULTS, RULES, UNORDERED
from adapterbank.peft_format.patterns import Pattern, first_match, too_costly
from adapterbank.peft_format.refusal import errors, refusal

CONFIG_BYTES = 64 * 1024
_DEPTH = 16


@dataclass(frozen=True, slots=True, eq=False)
class LoraConfig:
    """A LoRA configuration with PEFT's defaults; ``fields`` is the whole parsed object."""

    rank: int
    alpha: float
    rslora: bool
    base_model: str | None
    fields: Mapping[str, Any]
    rank_patterns: tuple[Pattern, ...] = ()
    alpha_patterns: tuple[Pattern, ...] = ()
    targets: frozenset[str] = frozenset()  # target_modules when it is a list; an expression is never evaluated

    def targeted_by(self, module: str) -> set[str]:
        """The entries of a list ``target_modules`` that name ``module``: its name or the end of it after a dot."""
        parts = module.split(".")
        return {".".join(parts[n:]) for n in range(len(parts))} & self.targets

    def get(self, field: str) -> Any:
        """The field's value; PEFT's default if it is missing or null."""
        value = self.fields.get(field)
        return DEFAULTS.get(field) if value is None else value

    def rank_for(self, module: str) -> int:
        """The rank PEFT gives to ``module`` (its name below ``base_model.model.``)."""
        key = first_match(self.rank_patterns, module)
        return self.rank if key is None else int(self.fields["rank_pattern"][key])

    def alpha_for(self, module: str) -> float:
        """The α PEFT gives to ``module``."""
        key = first_match(self.alpha_patterns, module)
        return self.alpha if key is None else float(self.fields["alpha_pattern"][key])

    def scaling_for(self, module: str) -> float:
        """α/r, or α/√r with rsLoRA (arXiv 2312.03732), of ``module``."""
        rank = self.rank_for(module)
        return self.alpha_for(module) / (sqrt(rank) if self.rslora else rank)

    def too_costly(self, modules: Sequence[str]) -> bool:
        """Whether matching the patterns against ``modules`` could take more steps than we give them."""
        return too_costly([*self.rank_patterns, *self.alpha_patterns], modules)

    def effective(self) -> dict[str, Any]:
        """The fields that say what the adapter computes: no bookkeeping, defaults or nulls; unordered lists sorted."""
        return {
            name: _canonical(name, value)
            for name, value in self.fields.items()
            if name not in BOOKKEEPING and value not in (None, []) and not (name in DEFAULTS and value == DEFAULTS[name])
        }


def parse(data: bytes) -> LoraConfig:
    """The configuration in ``data``; RefusedInputError lists every problem."""
    config, problems = read(data)
    if config is None:
        raise refusal(problems)
    return config


def read(data: bytes) -> tuple[LoraConfig | None, list[Problem]]:
    """The configuration, or None with every problem found; warnings may accompany a configuration."""
    where = "adapter_config.json"
    if len(data) > CONFIG_BYTES:
        return None, [Problem("config_too_large", f"{len(data)} bytes, at most {CONFIG_BYTES} are read", where)]
    try:
        fields = strict_json.loads(data, depth=_DEPTH)
    except strict_json.BadJSONError as reason:
        return None, [Problem(f"config_{reason.code}", f"the configuration: {reason}", where)]
    if not isinstance(fields, dict):
        return None, [Problem("config_type", f"a JSON {type(fields).__name__}, expected an object", where)]
    problems = [*_kind_problems(fields), *_field_problems(fields)]
    if errors(problems):
        return None, problems
    ranks, found = _patterns(fields, "rank_pattern")
    alphas, found_too = _patterns(fields, "alpha_pattern")
    problems += found + found_too
    if errors(problems):
        return None, problems
    r, alpha = fields.get("r"), fields.get("lora_alpha")
    return LoraConfig(
        rank=DEFAULTS["r"] if r is None else r,
        alpha=float(DEFAULTS["lora_alpha"] if alpha is None else alpha),
        rslora=bool(fields.get("use_rslora")),
        base_model=fields.get("base_model_name_or_path") or None,
        fields=fields,
        rank_patterns=ranks,
        alpha_patterns=alphas,
        targets=frozenset(fields["target_modules"]) if isinstance(fields.get("target_modules"), list) else frozenset(),
    ), problems


def _kind_problems(fields: Mapping[str, Any]) -> list[Problem]:
    kind = fields.get("peft_type")
    if kind == "LORA":
        return []
    if kind is None:
        return [Problem("peft_type_missing", "there is no peft_type: this is no PEFT configuration", "peft_type")]
    message = f"peft_type {str(kind)[:40]} is not LORA; peft.convert_to_lora turns additive kinds into LoRA"
    return [Problem("peft_type", message, "peft_type")]


def _field_problems(fields: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, value in fields.items():
        shown = name[:80]
        if name in RULES and value is not None and not RULES[name][1](value):
            problems.append(Problem("config_field", f"{shown} must be {RULES[name][0]}, got {str(value)[:60]}", shown))
        elif name not in DEFAULTS and name not in BOOKKEEPING and value not in (None, False, [], {}):
            message = f"{shown} is unknown here and to PEFT 0.21, which would ignore it"
            problems.append(Problem("config_unknown_field", message, shown, "warning"))
    if fields.get("lora_alpha") == 0:
        problems.append(Problem("zero_alpha", "lora_alpha is 0: the adapter changes nothing", "lora_alpha", "warning"))
    return problems


def _patterns(fields: Mapping[str, Any], field: str) -> tuple[tuple[Pattern, ...], list[Problem]]:
    patterns, problems = [], []
    for key in fields.get(field) or {}:
        try:
            patterns.append(Pattern.of(key))
        except ValueError as reason:
            problems.append(Problem("pattern_unsafe", f"{field} key {key[:80]!r} is not evaluated: {reason}", field))
    return tuple(patterns), problems


def _canonical(name: str, value: Any) -> Any:
    if name in UNORDERED and isinstance(value, list):
        return sorted(set(value))
    if name in ("rank_pattern", "alpha_pattern"):
        # The first key that matches wins, so their order is part of the meaning.
        return [[key, _canonical("", item)] for key, item in value.items()]
    return int(value) if isinstance(value, float) and value.is_integer() else value
