"""Labelled sentences as tasks of a calibration: the encoder without adapters, each skill's own head, two halves by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapterbank.calibration.tasks import Setting, Task
from adapterbank.demo.encoder import BATCH, Encoder, padded, pooled
from adapterbank.demo.evaluate import Head, Sentences
from adapterbank.errors import NotFoundError, UsageError
from adapterbank.refs import Ref

CALIBRATION = 256  # sentences of a task to learn from, at most: the number of the authors of Fisher and RegMean merging
Batch = dict[str, Tensor]


def skills_of(refs: Sequence[str]) -> dict[str, str]:
    """The skill of each reference: the adapter's name. Raises UsageError for a digest, which names none."""
    names = {ref: Ref.parse(ref).name for ref in refs}
    found = {ref: name for ref, name in names.items() if name is not None}
    if len(found) < len(names):
        raise UsageError(
            f"got {', '.join(sorted(names.keys() - found.keys()))}: expected adapters by name, the name of their skill"
        )
    return found


def sentence_setting(
    skills: Mapping[str, str], sentences: Mapping[str, Sentences], head_of: Callable[[str], Head], *, seed: int = 0
) -> Setting:
    """One task per reference: at most 256 sentences of one half to learn from, the whole other half held out.

    Raises NotFoundError for a skill without sentences, MissingExtraError without the encoder's package.
    """
    lacking = sorted({skill for skill in skills.values() if skill not in sentences})
    if lacking:
        raise NotFoundError(f"no labelled sentences for {', '.join(lacking)}")
    encoder = Encoder()
    tasks, held_out = {}, {}
    for ref, skill in skills.items():
        outputs = partial(_logits, head_of(skill))
        rows = sentences[skill]
        order = random.Random(seed).sample(range(len(rows.texts)), len(rows.texts))
        middle = (len(order) + 1) // 2
        tasks[ref] = Task(_batches(encoder, rows, order[: min(middle, CALIBRATION)]), outputs, _labels)
        held_out[ref] = Task(_batches(encoder, rows, order[middle:]), outputs, _labels)
    return Setting(encoder.model, tasks, held_out)


def _batches(encoder: Encoder, rows: Sentences, chosen: Sequence[int]) -> list[Batch]:
    """Batches of the ``chosen`` sentences: ids, mask and labels."""
    tokens = encoder.tokenize([rows.texts[i] for i in chosen])
    batches = []
    for start in range(0, len(chosen), BATCH):
        ids, mask = padded(tokens[start : start + BATCH])
        labels = torch.tensor([rows.labels[i] for i in chosen[start : start + BATCH]])
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return batches


def _logits(head: Head, model: Any, batch: Batch) -> Tensor:
    return head.logits(pooled(model, batch["input_ids"], batch["attention_mask"]))


def _labels(batch: Batch) -> Tensor:
    return batch["labels"]
