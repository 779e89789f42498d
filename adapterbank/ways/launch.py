"""launch: how a server is started so that it can serve versions of this bank."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapterbank.catalog import base_models
from adapterbank.catalog.rows import Version
from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.peft_format.servers import largest_rank, problems
from adapterbank.ways.joinable import same_base_model
from adapterbank.ways.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Launch:
    """Flags and environment variables of ``server`` for ``versions`` adapters, the largest of them of ``rank`` as it counts."""

    server: str
    versions: int
    rank: int
    flags: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """All of it as one line for a shell."""
        before = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*before, *map(shlex.quote, self.flags)])


@dataclass(frozen=True, slots=True)
class _Start:
    """What the flags are made of: the base ``model`` as the server is told it, the largest ``rank`` as it counts."""

    chosen: Sequence[Version]
    model: str
    rank: int
    slots: int
    bank: str


def launch(rooms: Rooms, chosen: Sequence[Version], *, server: str, slots: int, model: str | None = None) -> Launch:
    """For versions of one base model, served from ``model``: by default from a folder that is among its names, if one is here.

    Raises IncompatibleError for base models that differ and for versions that the server cannot take, UsageError for a server
    that is none.
    """
    if server not in _FLAGS:
        raise UsageError(f"server {server!r}: expected one of {', '.join(_FLAGS)}")
    same_base_model(chosen)
    for version in chosen:
        found = problems(server, rank=version.rank, modules=version.modules, carried=version.carried, obstacle=version.obstacle)
        refused = sorted({problem.message for problem in found if problem.severity == "error"})
        if refused:
            raise IncompatibleError(f"{version.ref} cannot be served by {server}: {'; '.join(refused[:3])}")
    rank = largest_rank(server, max(version.rank for version in chosen))
    flags, environment = _FLAGS[server](_Start(chosen, model or _model(rooms, chosen[0]), rank, slots, str(rooms.root)))
    return Launch(server, len(chosen), rank, tuple(flags), environment)


def _model(rooms: Rooms, version: Version) -> str:
    """A server finds a model by its folder; by its name only if that is one of a hub."""
    with rooms.catalog.reading() as tx:
        found = base_models.resolve(tx, version.base_model)
    folders = (name for name in (found.name, *found.aliases) if (Path(name) / "config.json").is_file())
    return next(folders, found.name)


def _vllm(start: _Start) -> tuple[list[str], dict[str, str]]:
    flags = [
        "vllm", "serve", start.model, "--enable-lora", "--max-loras", str(start.slots),
        "--max-cpu-loras", str(max(4 * start.slots, 16)), "--max-lora-rank", str(start.rank),
    ]  # fmt: skip
    return flags, {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_PLUGINS": "adapterbank", "ADAPTERBANK": start.bank,
        "ADAPTERBANK_MAX_LORA_RANK": str(start.rank),
    }  # fmt: skip


def _sglang(start: _Start) -> tuple[list[str], dict[str, str]]:
    targets = sorted({target for version in start.chosen for target in version.target_modules})
    return [
        "python", "-m", "sglang.launch_server", "--model-path", start.model, "--enable-lora",
        "--max-lora-rank", str(start.rank), "--lora-target-modules", *targets, "--max-loras-per-batch", str(start.slots),
    ], {}  # fmt: skip


def _lorax(start: _Start) -> tuple[list[str], dict[str, str]]:
    return ["lorax-launcher", "--model-id", start.model, "--max-active-adapters", str(start.slots)], {}


_FLAGS: Mapping[str, Callable[[_Start], tuple[list[str], dict[str, str]]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "lorax": _lorax,
}
