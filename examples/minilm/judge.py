"""How right a merge of this folder's adapters is, for ``adapterbank compare`` and ``greedy_soup``.

    adapterbank compare average ties --on banking home --evaluate examples/minilm/judge.py:accuracy

References are adapters registered under their folder's name; each skill is judged with its own head.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from adapterbank.demo.evaluate import Evaluator, read_sentences
from adapterbank.demo.tasks import skills_of

FOLDER = Path(__file__).resolve().parent


def accuracy(directory: str, refs: list[str]) -> dict[str, float]:
    """The share of each skill's sentences that the adapter in ``directory`` classifies rightly."""
    skills = skills_of(refs)
    evaluator = _evaluator(tuple(skills.values()))
    predicted = evaluator.predict(Path(directory), skills.values())
    return {ref: evaluator.accuracy(skill, predicted[skill]) for ref, skill in skills.items()}


@cache
def _evaluator(skills: tuple[str, ...]) -> Evaluator:
    return Evaluator(FOLDER / "heads", read_sentences(FOLDER / "sentences.jsonl", skills))
