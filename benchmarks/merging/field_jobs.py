"""One job of the field's table in a process of its own: merge and judge, or keep all adapters apart and judge."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapterbank.codecs.coder import decode, encode
from adapterbank.codecs.target import Target
from adapterbank.errors import AdapterBankError
from adapterbank.lora.adapter import Adapter
from adapterbank.merge import Merged, merge
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.preparation import Prepare
from benchmarks.baselines.collection import Collection
from benchmarks.baselines.reversible import reversible
from benchmarks.merging.field_halves import Half, Scores, Source, digests
from benchmarks.merging.field_learned import artefacts
from benchmarks.merging.field_trials import Trial

ORIGINALS, OFF = "originals", "no adapter"
APART = (ORIGINALS, OFF, "coder, 0.2 bits", "RMM, p = 1", "RMM, p = 2", "RMM, p = 3")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accuracies by task; the processor's seconds of the merge; bytes of what is kept; ``refused`` why there is no merge."""

    scores: Scores
    seconds: float = 0.0
    size: int = 0
    refused: str = ""


def merged(source: Source, work: Path, trial: Trial) -> Merged:
    """The merge of a trial."""
    adapters = source.read().adapters
    weights = [trial.weights] * len(adapters) if isinstance(trial.weights, float) else list(trial.weights)
    given = artefacts(work, trial.lesson) if trial.lesson else ()
    conditions = Conditions(prepare=tuple(Prepare.of(name) for name in trial.prepare), artefacts=given)
    names = digests(list(adapters))
    return merge(
        trial.method, list(adapters.values()), weights,
        names=names, rank=trial.rank, options=trial.options, seed=source.seed, conditions=conditions,
    )  # fmt: skip


def judged(source: Source, work: Path, trial: Trial, half: Half) -> Outcome:
    """Merge and judge on one half. A method that refuses the adapters says why."""
    start = time.process_time()
    try:
        found = merged(source, work, trial)
    except AdapterBankError as error:
        return Outcome({}, refused=str(error))
    seconds = time.process_time() - start
    size = 2 * sum(f.A.numel() + f.B.numel() for f in found.adapter.modules.values())
    return Outcome(source.judge().one(half, found.adapter), seconds, size)


def apart(source: Source, name: str) -> tuple[Outcome, Outcome]:
    """One of :data:`APART` on the validation and on the test half: nothing is merged, every task has an adapter of its own, or
    none; bytes of all of them together."""
    judge, family = source.judge(), source.read()
    if name == OFF:
        return Outcome(judge.one("validation", None)), Outcome(judge.one("test", None))
    start = time.process_time()
    forms, size = _forms(name, family.adapters)
    seconds = time.process_time() - start
    return Outcome(judge.each("validation", forms), seconds, size), Outcome(judge.each("test", forms), seconds, size)


def _forms(name: str, adapters: Mapping[str, Adapter]) -> tuple[Mapping[str, Adapter], int]:
    if name == ORIGINALS:
        return adapters, sum(2 * adapter.parameters for adapter in adapters.values())
    if name.startswith("RMM"):
        form = reversible(Collection.of(adapters), int(name[-1]), "given")
        return dict(zip(adapters, form.adapters, strict=True)), int(form.bits / 8)
    objects = {task: encode(adapter, Target(bits=0.2)).data for task, adapter in adapters.items()}
    return {task: decode(data) for task, data in objects.items()}, sum(map(len, objects.values()))
