"""The demo's measurements: accuracies of the directories that the bank wrote, and the figures of each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapterbank.demo.evaluate import Evaluator, share_equal
from adapterbank.demo.result import AdapterFigures

if TYPE_CHECKING:
    from torch import Tensor

    from adapterbank.catalog.rows import Basis, Member, Version
    from adapterbank.demo.stages import Say

ORIGINAL = "original"
RECONSTRUCTED = "reconstructed"
NO_ADAPTER = "no adapter"


@dataclass(frozen=True, slots=True)
class Passage:
    """One adapter on its way through the bank: as registered, as a member of the basis, and the directories written."""

    version: Version
    member: Member
    exact: bool
    exported: Path
    reconstructed: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one skill: accuracy by kind of adapter, agreement with the original's answers, and the number of sentences."""

    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]
    sentences: int


def measure(evaluator: Evaluator, passages: Sequence[Passage], merged: Mapping[str, Path], say: Say) -> dict[str, Measured]:
    """Measure every skill that has sentences with its original, its reconstruction, each merge, and no adapter at all."""
    answers: dict[str, dict[str, Tensor]] = {skill: {} for skill in evaluator.skills}
    for passage in passages:
        skill = passage.version.name
        if skill in answers:
            say(f"{skill}, original and reconstruction")
            answers[skill][ORIGINAL] = evaluator.predict(passage.exported, [skill])[skill]
            answers[skill][RECONSTRUCTED] = evaluator.predict(passage.reconstructed, [skill])[skill]
    shared: dict[str, Path | None] = {**merged, NO_ADAPTER: None}
    for kind, directory in shared.items():
        say(f"all skills, {kind}")
        for skill, answer in evaluator.predict(directory, evaluator.skills).items():
            answers[skill][kind] = answer
    say(f"{sum(len(kinds[ORIGINAL]) for kinds in answers.values())} sentences")
    return {skill: _compare(evaluator, skill, kinds) for skill, kinds in answers.items()}


def _compare(evaluator: Evaluator, skill: str, answers: Mapping[str, Tensor]) -> Measured:
    original = answers[ORIGINAL]
    return Measured(
        {kind: evaluator.accuracy(skill, answer) for kind, answer in answers.items()},
        {kind: share_equal(answer, original) for kind, answer in answers.items() if kind != ORIGINAL},
        len(original),
    )


def figures(passage: Passage, basis: Basis, members: int, measured: Measured | None) -> AdapterFigures:
    """The figures of one adapter; its stored form counts its coefficients and one of ``members`` shares of the basis."""
    version = passage.version
    stored = passage.member.bytes + round(basis.bytes / members)
    return {
        "name": version.name,
        "ref": version.ref,
        "bytes": version.bytes,
        "parameters": version.parameters,
        "exact": passage.exact,
        "stored_bytes": stored,
        "bits_per_parameter": 8 * version.bytes / version.parameters,
        "stored_bits_per_parameter": 8 * stored / version.parameters,
        "error": passage.member.error,
        "sentences": measured.sentences if measured else 0,
        "accuracy": dict(measured.accuracy) if measured else None,
        "agreement": dict(measured.agreement) if measured else None,
    }
