"""Task accuracy of one adapter on all tasks, or of one for each, on two disjoint halves of their sentences."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from adapterbank.demo.encoder import Encoder, padded, pooled
from adapterbank.demo.evaluate import read_head, read_sentences
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta
from benchmarks.rate_distortion.families import Family, real

Half = Literal["validation", "test"]
BATCH = 32  # sentences of nearly equal length
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Source:
    """Where adapters, heads and sentences lie, and how many sentences of each half count.

    A task's sentences are shuffled by ``seed``. Settings are chosen, and methods learn, on the first ``validation`` of the
    first half, which is the half that ``benchmarks/merging/tasks.py`` learns from; ``test`` of the second half judge.
    """

    data: Path
    family: str = "r16"
    validation: int = 96
    test: int = 160
    seed: int = 0

    def lines(self, half: Half) -> int:
        """How many sentences of a half count."""
        return self.validation if half == "validation" else self.test

    def read(self) -> Family:
        """The adapters, read once in a process."""
        return _family(self.data, self.family)

    def judge(self) -> Judge:
        """The judge, set up once in a process."""
        return _judge(self)


def digests(names: Sequence[str]) -> list[str]:
    """Stand-ins for content digests, the same in every run."""
    return [sha256(name.encode()).hexdigest() for name in names]


def standard_error(scores: Mapping[str, float], lines: int) -> float:
    """Of the mean accuracy over the tasks, each judged on ``lines`` sentences."""
    return sqrt(sum(p * (1.0 - p) / lines for p in scores.values())) / len(scores)


class Judge:
    """The encoder, every task's head, and the two halves of its sentences as tokens."""

    def __init__(self, source: Source) -> None:
        self.tasks = tuple(source.read().adapters)
        self._encoder = Encoder()
        self._heads = {task: read_head(source.data / "heads" / source.family / f"{task}.safetensors") for task in self.tasks}
        self._weights = {
            name: module.weight for name, module in self._encoder.model.named_modules() if hasattr(module, "weight")
        }
        self._changed: dict[str, Tensor] = {}
        sentences = read_sentences(source.data / "data", self.tasks)
        self._tokens: dict[tuple[str, str], list[list[int]]] = {}
        self._labels: dict[tuple[str, str], Tensor] = {}
        for task, rows in sentences.items():
            for half, chosen in _halves(len(rows.texts), source).items():
                self._tokens[half, task] = self._encoder.tokenize([rows.texts[i] for i in chosen])
                self._labels[half, task] = torch.tensor([rows.labels[i] for i in chosen])

    def one(self, half: Half, adapter: Adapter | None, tasks: Sequence[str] = ()) -> Scores:
        """The accuracy on every task with one adapter, or with none; all sentences together, by length."""
        chosen = tuple(tasks) or self.tasks
        with torch.inference_mode():
            self._apply(adapter)
            features = self._features([tokens for task in chosen for tokens in self._tokens[half, task]])
            split = torch.split(features, [len(self._tokens[half, task]) for task in chosen])
            return {task: self._accuracy(half, task, rows) for task, rows in zip(chosen, split, strict=True)}

    def each(self, half: Half, adapters: Mapping[str, Adapter]) -> Scores:
        """The accuracy on every task with the adapter of its own."""
        return {task: self.one(half, adapter, [task])[task] for task, adapter in adapters.items()}

    def _accuracy(self, half: Half, task: str, features: Tensor) -> float:
        return float((self._heads[task].predict(features) == self._labels[half, task]).double().mean())

    def _features(self, tokens: Sequence[list[int]]) -> Tensor:
        rows = torch.empty(len(tokens), self._encoder.model.config.hidden_size)
        by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(by_length), BATCH):
            chosen = by_length[start : start + BATCH]
            rows[chosen] = pooled(self._encoder.model, *padded([tokens[i] for i in chosen]))
        return rows

    def _apply(self, adapter: Adapter | None) -> None:
        """The base weights again, and the adapter's deltas on them."""
        for name, weight in self._changed.items():
            self._weights[name].copy_(weight)
        for name, factors in ({} if adapter is None else adapter.modules).items():
            self._changed.setdefault(name, self._weights[name].clone())
            self._weights[name].add_(delta(factors).float())


def _halves(count: int, source: Source) -> dict[str, list[int]]:
    order = random.Random(source.seed).sample(range(count), count)
    middle = (count + 1) // 2
    return {"validation": order[:middle][: source.validation], "test": order[middle:][: source.test]}


@cache
def _family(data: Path, name: str) -> Family:
    return real(data, name)


@cache
def _judge(source: Source) -> Judge:
    return Judge(source)
