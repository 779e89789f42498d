"""The record of a merge: what went in, by digest, and how; and the environment it was made in."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from adapterbank.errors import IntegrityError, UsageError
from adapterbank.merge.conditions import Absent
from adapterbank.merge.options import parse_options
from adapterbank.merge.preparation import Prepare
from adapterbank.merge.registry import find

DTYPES = ("float32", "float16", "bfloat16", "float64")
EXACT: Literal["exact"] = "exact"
Rank = int | Mapping[str, float] | Literal["exact"] | None
"""The output's rank: a number, ``{"energy": e}``, ``{"error": e}``, ``"exact"`` (nothing is cut), None for the method's own."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One input: the content digest of the adapter, and its weight."""

    digest: str
    weight: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """A merge in full; ``inputs`` keep the order they were given in, ``options`` hold every option of the method.

    ``schedules`` are weights per module, as :mod:`adapterbank.merge.weights` reads them; ``prepare`` is done to the adapters
    first; ``artefacts`` are the digests of the objects that the method is given beside them. ``continues`` is the state of the
    first input, itself a merge by a sequential method, which goes on from there with the second. On which device it was
    computed is no part of it.
    """

    method: str
    inputs: tuple[Ingredient, ...]
    options: Mapping[str, Any]
    rank: Rank = None
    seed: int = 0
    dtype: str = "float32"
    absent: Absent = "zero"
    prepare: tuple[Prepare, ...] = ()
    schedules: tuple[Mapping[str, Any], ...] = ()
    artefacts: tuple[str, ...] = ()
    continues: Mapping[str, float] | None = None

    @classmethod
    def of(cls, method: str, weights: Sequence[tuple[str, float]], **settings: Any) -> Recipe:
        """The recipe for (digest, weight) pairs, defaults filled in; ``settings`` are its other fields, ``prepare`` as names
        with options. Raises UsageError like :func:`merge`."""
        given = dict(settings)
        options = parse_options(method, find(method).options, given.pop("options", None) or {})
        prepare = tuple(Prepare.of(name, own) for name, own in given.pop("prepare", ()))
        rank = check_rank(given.pop("rank", None))
        inputs = tuple(Ingredient(digest, float(weight)) for digest, weight in weights)
        made = cls(method, inputs, options, rank, prepare=prepare, **given)
        _one_of("dtype", made.dtype, DTYPES)
        _one_of("absent", made.absent, get_args(Absent))
        return made

    def with_inputs(self, inputs: Sequence[Ingredient], artefacts: Sequence[str] = ()) -> Recipe:
        """The same of other adapters, with other artefacts."""
        return replace(self, inputs=tuple(inputs), artefacts=tuple(artefacts), continues=None)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, shortest floats; equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of :meth:`to_json`. Raises IntegrityError if ``text`` is no recipe."""
        try:
            body = json.loads(text)
            inputs = tuple(Ingredient(entry["digest"], float(entry["weight"])) for entry in body.pop("inputs"))
            prepare = tuple(Prepare(entry["name"], entry["options"]) for entry in body.pop("prepare"))
            schedules, artefacts = tuple(body.pop("schedules")), tuple(body.pop("artefacts"))
            return cls(inputs=inputs, prepare=prepare, schedules=schedules, artefacts=artefacts, **body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"stored recipe cannot be read: {error}", hint="adapterbank verify") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def check_rank(rank: Any) -> Rank:
    """``rank`` if it is one of the ways to say it. Raises UsageError."""
    match rank:
        case None | "exact":
            return rank
        case int() if not isinstance(rank, bool) and rank >= 1:
            return rank
        case {"energy": (int() | float()) as value} if len(rank) == 1 and 0.0 < value <= 1.0:
            return {"energy": float(value)}
        case {"error": (int() | float()) as value} if len(rank) == 1 and 0.0 <= value < 1.0:
            return {"error": float(value)}
    expected = "a number of at least 1, an energy above 0 and at most 1, an error from 0 to below 1, or exact"
    raise UsageError(f"rank: got {rank!r}, expected {expected}")


def _one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{what}: got {value!r}, expected one of {', '.join(allowed)}")


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
