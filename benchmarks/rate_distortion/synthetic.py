"""Synthetic collections, seeded, made from real adapters: what they share is known.

- ``null``: the singular values of real adapters, singular vectors of Gaussian matrices: nothing is shared.
- ``planted``: the same, but the rows of A span one space for all, up to a fifth of their energy.
- ``copies``: one real adapter and (B·G, G⁻¹·A) of it for random G of condition 10: three other files, one ΔW.
- ``chain``: versions, each a step away whose ΔW has a given share of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error
from benchmarks.baselines.collection import Collection, mapped
from benchmarks.rate_distortion.families import Family

CONDITION = 10.0
_PRIVATE = 0.2  # share of the energy of a planted row space that is an adapter's own
_BISECTIONS = 40

Step = Callable[[float], Adapter]


def null(source: Family, count: int = 4, seed: int = 1) -> Family:
    """``count`` unrelated adapters with the spectra of the source's first ones."""
    draw = torch.Generator().manual_seed(seed)
    found = {f"null{i}": _redrawn(adapter, draw, {}) for i, adapter in enumerate(_balanced(source, count))}
    return _family("null", "random null", found, source)


def planted(source: Family, count: int = 8, seed: int = 2) -> Family:
    """``count`` adapters with row spaces that are nearly one."""
    draw = torch.Generator().manual_seed(seed)
    balanced = _balanced(source, count)
    common = {name: _gaussian(f.d_in, f.rank, draw) for name, f in balanced[0].modules.items()}
    found = {f"planted{i}": _redrawn(adapter, draw, common) for i, adapter in enumerate(balanced)}
    return _family("planted", "planted sharing of rows", found, source)


def copies(source: Family, count: int = 4, seed: int = 3) -> Family:
    """The source's first adapter and ``count`` − 1 re-gauged copies."""
    draw = torch.Generator().manual_seed(seed)
    adapter = next(iter(source.adapters.values()))
    found = {"original": adapter}
    for i in range(1, count):
        turned = {name: _regauged(factors, draw) for name, factors in adapter.modules.items()}
        found[f"copy{i}"] = Adapter(turned, adapter.base_model)
    return _family("copies", f"one adapter in {count} gauges", found, source)


def chain(source: Family, share: float, kind: str, length: int = 3, seed: int = 4) -> Family:
    """``length`` versions; a step is ``random`` (noise on both factors) or ``toward`` the source's second adapter."""
    first, second = list(source.adapters.values())[:2]
    draw = torch.Generator().manual_seed(seed)
    found = {"v1": first}
    for i in range(1, length):
        before = found[f"v{i}"]
        step = _noise(before, draw) if kind == "random" else _toward(before, second)
        found[f"v{i + 1}"] = _of_size(before, step, share)
    made = _family(f"chain-{kind}-{round(100 * share)}", f"versions, {kind} steps of {share:.0%}", found, source)
    return replace(made, parents={f"v{i + 1}": f"v{i}" for i in range(1, length)})


def _family(name: str, title: str, adapters: Mapping[str, Adapter], source: Family) -> Family:
    """Scaling folded into B, and a configuration that says so."""
    config = json.dumps(json.loads(next(iter(source.configs.values()))) | {"lora_alpha": source.rank}, indent=2).encode()
    folded = {n: mapped(adapter, lambda f: Factors(f.A, f.B * f.scaling)) for n, adapter in adapters.items()}
    return Family(name, title, folded, dict.fromkeys(adapters, config))


def _balanced(source: Family, count: int) -> Sequence[Adapter]:
    names = list(source.adapters)
    return Collection.of({f"{i}": source.adapters[names[i % len(names)]] for i in range(count)}).balanced


def _redrawn(adapter: Adapter, draw: torch.Generator, rows: Mapping[str, Tensor]) -> Adapter:
    modules = {name: _with_vectors(factors, draw, rows.get(name)) for name, factors in adapter.modules.items()}
    return Adapter(modules, adapter.base_model)


def _with_vectors(factors: Factors, draw: torch.Generator, rows: Tensor | None) -> Factors:
    """The same singular values with new vectors, turned by a random rotation as training would leave them."""
    values = factors.B.norm(dim=0)  # √s
    left = torch.linalg.qr(_gaussian(factors.d_out, factors.rank, draw)).Q
    own = _gaussian(factors.d_in, factors.rank, draw)
    if rows is not None:
        mixed = rows @ torch.linalg.qr(_gaussian(factors.rank, factors.rank, draw)).Q
        own = (1.0 - _PRIVATE) ** 0.5 * mixed + _PRIVATE**0.5 * own
    right = torch.linalg.qr(own).Q
    turn = torch.linalg.qr(_gaussian(factors.rank, factors.rank, draw)).Q
    return Factors(((right * values) @ turn).T.float().contiguous(), ((left * values) @ turn).float().contiguous())


def _regauged(factors: Factors, draw: torch.Generator) -> Factors:
    r = factors.rank
    left, right = (torch.linalg.qr(_gaussian(r, r, draw)).Q for _ in range(2))
    G = left @ torch.diag(torch.logspace(0.0, torch.log10(torch.tensor(CONDITION)).item(), r, dtype=torch.float64)) @ right
    A, B = torch.linalg.solve(G, factors.A.double()), factors.B.double() @ G
    return Factors(A.float(), B.float(), factors.scaling)


def _noise(adapter: Adapter, draw: torch.Generator) -> Step:
    """Both factors with Gaussian noise of their own root mean square, times the step."""
    drawn = {
        name: (_gaussian(*f.A.shape, draw) * f.A.double().square().mean().sqrt(),
               _gaussian(*f.B.shape, draw) * f.B.double().square().mean().sqrt())
        for name, f in adapter.modules.items()
    }  # fmt: skip
    return lambda size: _moved(adapter, drawn, size)


def _toward(adapter: Adapter, other: Adapter) -> Step:
    """The factors on the way to another adapter's, times the step."""
    ways = {
        name: (other.modules[name].A.double() - f.A.double(), other.modules[name].B.double() - f.B.double())
        for name, f in adapter.modules.items()
    }
    return lambda size: _moved(adapter, ways, size)


def _moved(adapter: Adapter, ways: Mapping[str, tuple[Tensor, Tensor]], size: float) -> Adapter:
    moved = {}
    for name, f in adapter.modules.items():
        A, B = f.A.double() + size * ways[name][0], f.B.double() + size * ways[name][1]
        moved[name] = Factors(A.float(), B.float(), f.scaling)
    return Adapter(moved, adapter.base_model)


def _of_size(before: Adapter, step: Step, share: float) -> Adapter:
    """The step whose ΔW change is ``share`` of ``before``'s."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_error(before, step(middle)).total < share else (low, middle)
        if high - low < 1e-4 * high:
            break
    return step(high)


def _gaussian(rows: int, columns: int, draw: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=draw, dtype=torch.float64)
