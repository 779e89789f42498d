"""Writes the golden objects and what they decode to; run only when the format gets a new number.

python -m tests.codecs.coder.make_golden
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from adapterbank.codecs.coder import Coded, encode
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors

from .made import adapter, child, digest, factors, family

GOLDEN = Path(__file__).parent / "golden"
TINY = {"layer.0": (48, 40, 4), "layer.1": (24, 30, 3)}


def made() -> dict[str, Coded]:
    """By name; what an object needs stands before it."""
    parent = adapter(TINY, seed=1)
    found = {
        "kinds": encode(_kinds(), Target(max_error=0.25)),
        "states-32": encode(adapter(TINY, seed=2), Target(max_error=0.2), effort=3),
        "hidden": encode(adapter(TINY, seed=3), Target(max_error=1e-4), effort=0),
        "escapes": encode(_outliers(), Target(max_error=0.05)),
        "lanes": encode(Adapter({"layer": factors(1030, 515, 2, seed=4)}), Target(max_error=0.3)),
        "parent": encode(parent, Target(max_error=0.05)),
    }
    version = child(parent, 0.2, seed=1, rank=1)
    found["refined"] = encode(version, Target(max_error=0.1), references=by_digest(found))
    first, then = ({key: found[key] for key in keys} for keys in (("parent",), ("parent", "refined")))
    found["unchanged"] = encode(parent, Target(max_error=0.1), references=by_digest(first))
    found["chain"] = encode(child(version, 0.1, seed=2, rank=1), Target(max_error=0.1), references=by_digest(then))
    first, second, third = family(3, {"layer.0": (60, 200, 4), "layer.1": (60, 220, 4)})
    for name, member in (("rows-0", first), ("rows-1", second), ("rows-2", third)):
        known = by_digest({key: found[key] for key in found if key.startswith("rows")})
        found[name] = encode(member, Target(max_error=0.05), effort=0, references=known)
    return found


def by_digest(coded: Mapping[str, Coded]) -> dict[str, bytes]:
    return {digest(each.data): each.data for each in coded.values()}


def digests(decoded: Adapter) -> dict[str, list[str]]:
    """The SHA-256 of each module's A and B as float32, little-endian, in row-major order."""
    sides = {name: (own.A, own.B) for name, own in decoded.modules.items()}
    return {name: [digest(side.contiguous().numpy().astype("<f4").tobytes()) for side in pair] for name, pair in sides.items()}


def _kinds() -> Adapter:
    conv, table = factors(24, 27, 2, 7), factors(16, 90, 3, 8)
    modules = {
        **adapter(TINY).modules,
        "conv": Factors(conv.A, conv.B, 2.0, "conv", (3, 3)),
        "embed": Factors(table.A, table.B, 0.5, "embedding"),
        "one": Factors(torch.tensor([[2.5]]), torch.tensor([[-0.3]])),
        "zero": Factors(torch.ones(2, 5), torch.zeros(6, 2)),
    }
    return Adapter(modules, extras={"classifier.bias": torch.tensor([0.5, -0.0, float("inf")])})


def _outliers() -> Adapter:
    own = factors(200, 300, 1, seed=0)
    own.A[0, 7] *= 60.0
    own.B[11, 0] *= -60.0
    return Adapter({"layer": own})


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    coded = made()
    for name, each in coded.items():
        (GOLDEN / f"{name}.abrd").write_bytes(each.data)
    expected = {name: digests(each.adapter) for name, each in coded.items()}
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
