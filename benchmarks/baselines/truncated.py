"""Truncated SVD of every adapter alone, float16: the best rank-p approximation there is (Eckart–Young)."""

from __future__ import annotations

from adapterbank.lora.adapter import Factors
from benchmarks.baselines.collection import HALF, Collection, Form, half, mapped


def truncated(collection: Collection, rank: int) -> Form:
    """Every module cut to its ``rank`` leading components."""

    def cut(factors: Factors) -> Factors:
        return Factors(half(factors.A[:rank]), half(factors.B[:, :rank]))

    adapters = tuple(mapped(adapter, cut) for adapter in collection.balanced)
    return Form(adapters, HALF * sum(adapter.parameters for adapter in adapters))
