"""The data of this folder's adapters, for methods that learn from data.

    adapterbank merge regmean banking home kitchen meta --with examples/minilm/tasks.py:setting --name merged

References are adapters registered under their folder's name. Half of each skill's sentences is to learn from, half is held out.
"""

from __future__ import annotations

from pathlib import Path

from adapterbank.calibration.tasks import Setting
from adapterbank.demo.evaluate import read_head, read_sentences
from adapterbank.demo.tasks import sentence_setting, skills_of

FOLDER = Path(__file__).resolve().parent


def setting(refs: list[str]) -> Setting:
    """The encoder, and for every reference its skill's sentences and head."""
    skills = skills_of(refs)
    sentences = read_sentences(FOLDER / "sentences.jsonl", skills.values())
    return sentence_setting(skills, sentences, lambda skill: read_head(FOLDER / "heads" / f"{skill}.safetensors"))
