"""The data of a folder of adapters with ``data/*.jsonl`` and ``heads/``, for methods that learn from data.

    ADAPTERBANK_DATA=FOLDER adapterbank merge fisher cola cr sst2 --with benchmarks/merging/tasks.py:setting --name merged

References are adapters registered under their task's name. Sentences are read from ``data/TASK.test.jsonl``; half of them is
to learn from (at most as many as the variable ``ADAPTERBANK_SENTENCES`` says, in whole batches) and half is held out. Heads are
read from ``heads/TASK.safetensors``, or from the folder under ``heads/`` that the variable ``ADAPTERBANK_HEADS`` names.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from adapterbank.calibration.tasks import Setting
from adapterbank.demo.encoder import BATCH
from adapterbank.demo.evaluate import read_head, read_sentences
from adapterbank.demo.tasks import sentence_setting, skills_of
from adapterbank.errors import UsageError


def setting(refs: list[str], folder: Path | None = None, heads: str | None = None, seed: int = 0) -> Setting:
    """The encoder, and for every reference its task's sentences and head; ``folder`` and ``heads`` default to the variables."""
    root = folder or _folder()
    heads = os.environ.get("ADAPTERBANK_HEADS", "") if heads is None else heads
    skills = skills_of(refs)
    sentences = read_sentences(root / "data", skills.values())
    made = sentence_setting(
        skills, sentences, lambda skill: read_head(root / "heads" / heads / f"{skill}.safetensors"), seed=seed
    )
    most = os.environ.get("ADAPTERBANK_SENTENCES")
    return (
        made if most is None else replace(made, tasks={ref: t.first(-(-int(most) // BATCH)) for ref, t in made.tasks.items()})
    )


def _folder() -> Path:
    given = os.environ.get("ADAPTERBANK_DATA")
    if not given or not Path(given, "data").is_dir():
        raise UsageError(f"ADAPTERBANK_DATA: got {given!r}, expected a folder with data/ and heads/")
    return Path(given)
