"""launch: how a server is started so that it can serve versions of this bank."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from adapterbank.catalog.rows import Version
from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.peft_format.servers import largest_rank, problems
from adapterbank.ways.joinable import same_base_model


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


def launch(chosen: Sequence[Version], bank: str, *, server: str, slots: int) -> Launch:
    """For versions of one base model. Raises IncompatibleError for base models that differ and for versions that the server
    cannot take, UsageError for a server that is none."""
    if server not in _FLAGS:
        raise UsageError(f"server {server!r}: expected one of {', '.join(_FLAGS)}")
    same_base_model(chosen)
    for version in chosen:
        found = problems(server, rank=version.rank, modules=version.modules, carried=version.carried, obstacle=version.obstacle)
        refused = sorted({problem.message for problem in found if problem.severity == "error"})
        if refused:
            raise IncompatibleError(f"{version.ref} cannot be served by {server}: {'; '.join(refused[:3])}")
    rank = largest_rank(server, max(version.rank for version in chosen))
    flags, environment = _FLAGS[server](chosen, rank, slots, bank)
    return Launch(server, len(chosen), rank, tuple(flags), environment)


def _vllm(chosen: Sequence[Version], rank: int, slots: int, bank: str) -> tuple[list[str], dict[str, str]]:

    flags = [
        "--enable-lora",
        "--max-loras",
        str(slots),
        "--max-cpu-loras",
        str(max(4 * slots, 16)),
        "--max-lora-rank",
        str(rank),
    ]
    return ["vllm", "serve", chosen[0].base_model, *flags], {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_PLUGINS": "adapterbank", "ADAPTERBANK": bank,
        "ADAPTERBANK_MAX_LORA_RANK": str(rank),
    }  # fmt: skip


def _sglang(chosen: Sequence[Version], rank: int, slots: int, bank: str) -> tuple[list[str], dict[str, str]]:
    targets = sorted({target for version in chosen for target in version.target_modules})
    return [
        "python", "-m", "sglang.launch_server", "--model-path", chosen[0].base_model, "--enable-lora",
        "--max-lora-rank", str(rank), "--lora-target-modules", *targets, "--max-loras-per-batch", str(slots),
    ], {}  # fmt: skip


def _lorax(chosen: Sequence[Version], rank: int, slots: int, bank: str) -> tuple[list[str], dict[str, str]]:
    return ["lorax-launcher", "--model-id", chosen[0].base_model, "--max-active-adapters", str(slots)], {}


_Flags = Callable[[Sequence[Version], int, int, str], tuple[list[str], dict[str, str]]]
_FLAGS: Mapping[str, _Flags] = {"vllm": _vllm, "sglang": _sglang, "lorax": _lorax}
