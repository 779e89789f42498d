"""The demo's accuracies: of originals, reconstructions and merges, as the PEFT directories that the bank wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from adapterbank.demo.acts import MERGES, Directories, Passage, Scene, Size, merged_folder
from adapterbank.demo.evaluate import Evaluator, read_sentences, share_equal
from adapterbank.demo.stages import stage
from adapterbank.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

ORIGINAL = "original"
RECONSTRUCTED = "reconstructed"
NO_ADAPTER = "no adapter"

Answers = Mapping[str, "Tensor"]  # by skill, the class index given to each sentence


@dataclass(frozen=True, slots=True)
class Shares:
    """Accuracy by kind of adapter, agreement with the original's answers by kind, and the number of sentences."""

    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]
    sentences: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """By skill; by size of the basis, or quality of coding, the means (accuracy, agreement) of what came back; or why there are
    none."""

    skills: Mapping[str, Shares] = field(default_factory=dict)
    sizes: Mapping[Size | str, tuple[float, float]] = field(default_factory=dict)
    missing: str | None = None


def measure(
    scene: Scene, passages: Sequence[Passage], others: Mapping[Size | str, Directories], chosen: Size, data: Path
) -> Measurements:
    """Measure every skill that ``data`` has sentences for, with every adapter that was written for it, and with none."""
    try:
        with stage(scene.console, "Loading the encoder"):
            sentences = read_sentences(data, [passage.version.name for passage in passages])
            evaluator = Evaluator(scene.source / "heads", sentences)
    except MissingExtraError as error:
        return Measurements(missing=str(error))
    with stage(scene.console, "Answering the sentences") as say:
        original = _own(evaluator, {passage.version.name: passage.exported for passage in passages})
        rebuilt = _own(evaluator, {passage.version.name: passage.reconstructed for passage in passages})
        say("merges")
        shared = {method: evaluator.predict(merged_folder(scene, method), evaluator.skills) for method in MERGES}
        bare = evaluator.predict(None, evaluator.skills)
        sizes: dict[Size | str, tuple[float, float]] = {chosen: _means(evaluator, original, rebuilt)}
        for size, directories in others.items():
            say(f"quality {size}" if isinstance(size, str) else f"{size[1]} components, gauge {size[0]}")
            sizes[size] = _means(evaluator, original, _own(evaluator, directories))
        say(f"{sum(map(len, original.values()))} with each of {len(sizes) + len(shared) + 2} kinds of adapter")
    return Measurements(compare(evaluator, original, {RECONSTRUCTED: rebuilt, **shared, NO_ADAPTER: bare}), sizes)


def compare(evaluator: Evaluator, original: Answers, others: Mapping[str, Answers]) -> dict[str, Shares]:
    """Of every skill, the accuracy of each kind of answers, and its agreement with the original's."""
    return {
        skill: Shares(
            {kind: evaluator.accuracy(skill, given[skill]) for kind, given in {ORIGINAL: original, **others}.items()},
            {kind: share_equal(given[skill], original[skill]) for kind, given in others.items()},
            len(original[skill]),
        )
        for skill in evaluator.skills
    }


def _own(evaluator: Evaluator, directories: Directories) -> Answers:
    """What every skill answers with its own adapter."""
    return {skill: evaluator.predict(directories[skill], [skill])[skill] for skill in evaluator.skills}


def _means(evaluator: Evaluator, original: Answers, rebuilt: Answers) -> tuple[float, float]:
    shares = compare(evaluator, original, {RECONSTRUCTED: rebuilt}).values()
    return (
        fmean(share.accuracy[RECONSTRUCTED] for share in shares),
        fmean(share.agreement[RECONSTRUCTED] for share in shares),
    )
