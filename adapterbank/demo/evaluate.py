"""Accuracy of adapters on labelled sentences: encoder with the adapter, then the skill's own linear head."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterbank.demo.encoder import Encoder
from adapterbank.errors import NotFoundError, RefusedInputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sentences:
    """Texts of one skill and, for each, the index of the right class."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


def read_sentences(path: Path, skills: Iterable[str]) -> dict[str, Sentences]:
    """The labelled sentences of every skill: one file with a ``skill`` in each line, or a folder with a file per skill.

    Lines are ``{"text": …, "label": index}`` (``"a"`` is read for ``"text"`` too); a folder holds ``<skill>.test.jsonl``
    or ``<skill>.jsonl``, also behind a prefix (``clinc_<skill>.test.jsonl``). Skills without sentences are left out. Raises
    NotFoundError if no skill has any.
    """
    wanted = set(skills)
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file, skill in _files(path, wanted):
        for number, line in enumerate(_lines(file), start=1):
            name, text, label = _parse(line, skill, f"{file}:{number}")
            if name in wanted:
                found[name].append((text, label))
    if not found:
        raise NotFoundError(
            f"{path} has no labelled sentences for any of: {', '.join(sorted(wanted))}",
            hint="expected SKILL.test.jsonl, SKILL.jsonl or PREFIX_SKILL.test.jsonl, lines of text and label",
        )
    return {
        skill: Sentences(tuple(text for text, _ in rows), tuple(label for _, label in rows)) for skill, rows in found.items()
    }


def _files(path: Path, skills: set[str]) -> list[tuple[Path, str | None]]:
    """The files to read, each with the skill its name says (None: every line says it)."""
    if path.is_file():
        return [(path, None)]
    chosen: list[tuple[Path, str | None]] = []
    for skill in sorted(skills):
        patterns = (f"{skill}.test.jsonl", f"{skill}.jsonl", f"*_{skill}.test.jsonl", f"*_{skill}.jsonl")
        found = (file for pattern in patterns for file in sorted(path.glob(pattern)))
        chosen += [(file, skill) for file in found if file.is_file()][:1]
    return chosen


def _lines(file: Path) -> list[str]:
    """The lines of a file, ended by a newline only: JSON may hold other separators, such as U+0085, as they are."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def _parse(line: str, skill: str | None, where: str) -> tuple[str, str, int]:
    try:
        row = json.loads(line)
        return skill or str(row["skill"]), str(row["text"] if "text" in row else row["a"]), int(row["label"])
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedInputError(f"{where}: expected a JSON object with 'text' and 'label', got {line[:60]!r}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head: logits = features @ ``weight``ᵀ + ``bias``; ``weight`` is ``[classes, d]``."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """``[n, classes]`` of ``features [n, d]``."""
        return features @ self.weight.T + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """The class index of each row of ``features [n, d]``."""
        return self.logits(features).argmax(1)


def read_head(path: Path) -> Head:
    """The head of one skill from a safetensors file with ``weight`` and ``bias``; NotFoundError if there is none."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise NotFoundError(f"no head {path.name} in {path.parent}: expected a safetensors file with weight and bias")
    tensors = load_file(path)
    return Head(tensors["weight"].float(), tensors["bias"].float())


class Evaluator:
    """Holds the encoder, the tokenised sentences and the heads; predicts with any PEFT directory."""

    def __init__(self, heads: Path, sentences: Mapping[str, Sentences]) -> None:
        import torch

        self._encoder = Encoder()
        self._heads = {skill: read_head(heads / f"{skill}.safetensors") for skill in sentences}
        self._tokens = {skill: self._encoder.tokenize(rows.texts) for skill, rows in sentences.items()}
        self._labels = {skill: torch.tensor(rows.labels) for skill, rows in sentences.items()}

    @property
    def skills(self) -> tuple[str, ...]:
        return tuple(self._heads)

    def predict(self, adapter: Path | None, skills: Iterable[str]) -> dict[str, Tensor]:
        """Predicted classes ``[sentences]`` by skill, with the adapter of a PEFT directory or without one."""
        chosen = list(skills)
        features = self._encoder.features([ids for skill in chosen for ids in self._tokens[skill]], adapter)
        predictions, start = {}, 0
        for skill in chosen:
            stop = start + len(self._tokens[skill])
            predictions[skill], start = self._heads[skill].predict(features[start:stop]), stop
        return predictions

    def accuracy(self, skill: str, predictions: Tensor) -> float:
        """The share of the skill's sentences that were given their own class."""
        return share_equal(predictions, self._labels[skill])


def share_equal(first: Any, second: Any) -> float:
    """The share of equal entries of two index tensors of equal length."""
    return float((first == second).double().mean())
