"""Collections of adapters to be measured: real ones from a folder, and what each is stored with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapterbank.lora.adapter import Adapter
from adapterbank.peft_format.reader import read
from adapterbank.vault.compressed import compress
from benchmarks.adapters import CONFIG, WEIGHTS

REAL = {
    "r16": "eight unlike tasks",
    "clinc": "eight skills of one product",
    "r16_sharedinit": "four tasks from one initial A",
    "r64": "two tasks at rank 64",
}


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Adapters by name with their ``adapter_config.json``; ``heads`` names the task heads, if there are any.

    ``parents`` says which version an adapter was made from, ``folders`` where real ones lie.
    """

    name: str
    title: str
    adapters: Mapping[str, Adapter]
    configs: Mapping[str, bytes]
    heads: str | None = None
    parents: Mapping[str, str] | None = None
    folders: Mapping[str, Path] | None = None

    @property
    def parameters(self) -> int:
        """LoRA parameters of all adapters."""
        return sum(adapter.parameters for adapter in self.adapters.values())

    @property
    def rank(self) -> int:
        return max(adapter.rank for adapter in self.adapters.values())

    @property
    def config_bytes(self) -> int:
        """Bytes that a bank keeps of the configurations on disk, equal ones once."""
        return sum(len(compress(config) or config) for config in set(self.configs.values()))

    def first(self, count: int) -> Family:
        """The same with its first adapters only."""
        names = list(self.adapters)[:count]
        adapters, configs = {name: self.adapters[name] for name in names}, {name: self.configs[name] for name in names}
        return replace(self, adapters=adapters, configs=configs)


def real(data: Path, name: str) -> Family:
    """The family ``data/name``, a folder of PEFT directories; FileNotFoundError if it is not there."""
    folders = sorted(path for path in (data / name).iterdir() if (path / CONFIG).is_file())
    configs = {path.name: (path / CONFIG).read_bytes() for path in folders}
    adapters = {path.name: read(configs[path.name], (path / WEIGHTS).read_bytes()) for path in folders}
    return Family(name, REAL[name], adapters, configs, name, folders={path.name: path for path in folders})


def missing(data: Path, names: Sequence[str] = tuple(REAL)) -> list[str]:
    """The families that ``data`` lacks."""
    return [name for name in names if not (data / name).is_dir()]
