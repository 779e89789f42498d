"""The record of a merge: what went in, by digest, and how; and the environment it was made in."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from adapterbank.errors import IntegrityError, UsageError
from adapterbank.merge.options import parse_options
from adapterbank.merge.registry import find

DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One input: the content digest of the adapter, and its weight."""

    digest: str
    weight: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """A merge in full; ``inputs`` keep the order they were given in, ``options`` hold every option of the method."""

    method: str
    inputs: tuple[Ingredient, ...]
    options: Mapping[str, Any]
    rank: int | None = None
    seed: int = 0
    dtype: str = "float32"

    @classmethod
    def of(
        cls,
        method: str,
        weights: Sequence[tuple[str, float]],
        *,
        options: Mapping[str, Any] | None = None,
        rank: int | None = None,
        seed: int = 0,
        dtype: str = "float32",
    ) -> Recipe:
        """The recipe for (digest, weight) pairs, defaults filled in. Raises UsageError like :func:`merge`."""
        values = parse_options(method, find(method).options, options or {})
        if dtype not in DTYPES:
            raise UsageError(f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}")
        return cls(method, tuple(Ingredient(digest, float(weight)) for digest, weight in weights), values, rank, seed, dtype)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, shortest floats; equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of :meth:`to_json`. Raises IntegrityError if ``text`` is no recipe."""
        try:
            body = json.loads(text)
            inputs = tuple(Ingredient(entry["digest"], float(entry["weight"])) for entry in body.pop("inputs"))
            return cls(inputs=inputs, **body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"stored recipe cannot be read: {error}", hint="adapterbank verify") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def environment() -> dict[str, str]:
    """What the last bit of a merge can depend on besides its recipe: code, libraries, BLAS and processor."""
    from adapterbank import __version__

    blas = [line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line or "OpenBLAS" in line]
    return {
        "adapterbank": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "blas": "; ".join(blas) or "unknown",
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
