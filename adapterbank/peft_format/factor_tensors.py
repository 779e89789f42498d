"""Factors to the tensors of a PEFT file: scaling folded into B, shapes and key names of each kind restored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.peft_format.names import PEFT_PREFIX, Naming

_EXPERT = re.compile(r"(.+)\[(\d+)\]")


def grouped(modules: Mapping[str, Factors]) -> dict[str, list[Factors]]:
    """Modules by the name PEFT knows: one each, or all experts of a parameter in order (an absent one is zeros).

    Experts of unequal rank are padded with zeros to the largest: a stack has one rank.
    """
    plain: dict[str, list[Factors]] = {}
    stacks: dict[str, dict[int, Factors]] = {}
    for name, factors in modules.items():
        match = _EXPERT.fullmatch(name) if factors.kind == "expert" else None
        if match is None:
            plain[name] = [factors]
        else:
            stacks.setdefault(match[1], {})[int(match[2])] = factors
    return plain | {name: _stack(members) for name, members in stacks.items()}


def tensors(groups: Mapping[str, list[Factors]], naming: Naming, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every factor under its key, as ``dtype``; UsageError if a value does not fit it."""
    found: dict[str, Tensor] = {}
    for name, members in groups.items():
        key = PEFT_PREFIX + naming.backward(name)
        found.update(_expert_pair(key, members, dtype) if members[0].kind == "expert" else _pair(key, members[0], dtype))
    for key, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise UsageError(f"{key} has values that {dtype} cannot hold", hint="write it as bfloat16 or float32")
    return found


def _pair(key: str, factors: Factors, dtype: torch.dtype) -> dict[str, Tensor]:
    A, B = factors.A.to(dtype), _scaled(factors, dtype)
    if factors.kind == "embedding":
        return {f"{key}.lora_embedding_A": A, f"{key}.lora_embedding_B": B}
    if factors.kind == "conv":
        channels = factors.d_in // prod(factors.kernel)
        A = A.reshape(factors.rank, channels, *factors.kernel)
        B = B.reshape(factors.d_out, factors.rank, *(1 for _ in factors.kernel))
    return {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B}


def _expert_pair(key: str, members: list[Factors], dtype: torch.dtype) -> dict[str, Tensor]:
    """A ``[E·r, d_in]``, expert by expert; B ``[d_out, r·E]``, rank by rank."""
    A = torch.cat([factors.A.to(dtype) for factors in members])
    B = torch.stack([_scaled(factors, dtype) for factors in members], dim=-1)
    return {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B.flatten(1)}


def _scaled(factors: Factors, dtype: torch.dtype) -> Tensor:
    # In float64, so that the product is rounded once.
    return factors.B.to(dtype) if factors.scaling == 1.0 else (factors.B.double() * factors.scaling).to(dtype)


def _stack(members: Mapping[int, Factors]) -> list[Factors]:
    first = next(iter(members.values()))
    rank = max(factors.rank for factors in members.values())
    absent = Factors(first.A.new_zeros(rank, first.d_in), first.B.new_zeros(first.d_out, rank), kind="expert")
    return [_padded(members.get(e, absent), rank) for e in range(max(members) + 1)]


def _padded(factors: Factors, rank: int) -> Factors:
    more = rank - factors.rank
    if not more:
        return factors
    A = torch.cat([factors.A, factors.A.new_zeros(more, factors.d_in)])
    B = torch.cat([factors.B, factors.B.new_zeros(factors.d_out, more)], dim=1)
    return Factors(A, B, factors.scaling, "expert")
